//! What this program does as a child of itself, and how its parent speaks with it: a line is said, a line is answered.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};

use crate::system::{Meanwhile, System, Version};

/// A child in a role, killed when dropped.
pub(crate) struct Role {
    pub(crate) child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Role {
    pub(crate) fn start<S: System>(role: &str, folder: &Path, arguments: &[String]) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--role", S::NAME, role])
            .arg(folder)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start a child to {role}"))?;
        let questions = child.stdin.take().context("the child's stdin is piped")?;
        let answers = BufReader::new(child.stdout.take().context("the child's stdout is piped")?);
        Ok(Self { child, questions, answers })
    }

    pub(crate) fn say(&mut self, line: &str) -> Result<()> {
        writeln!(self.questions, "{line}").context("cannot speak to a child")
    }

    /// Its next line; an error where it ended without one.
    pub(crate) fn hear(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line).context("cannot hear a child")?;
        ensure!(!line.is_empty(), "a child ended without a word");
        Ok(line.trim().to_owned())
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a child does.
pub(crate) fn play<S: System>(arguments: &[String]) -> Result<()> {
    let [role, folder, rest @ ..] = arguments else { bail!("ROLE FOLDER …") };
    let folder = Path::new(folder);
    let number = |position: usize| -> Result<u32> { Ok(rest.get(position).context("a number")?.parse()?) };
    match role.as_str() {
        "write forever" => {
            let mut writer = S::writer(folder)?;
            for next in number(0)?.. {
                S::write(&mut writer, Version::of(next))?;
                println!("{next}");
            }
            Ok(())
        }
        "write" => write::<S>(folder, number(0)?, number(1)?, number(2)?.try_into()?),
        "clear dead readers" => {
            println!("{}", S::clear_dead_readers(&S::writer(folder)?)?);
            Ok(())
        }
        "hold" => {
            let mut reader = S::reader(folder)?;
            let held = S::hold(&mut reader, || {
                answer("holding")?;
                Ok(Meanwhile::ReadOn)
            });
            println!("{}", seen(held));
            Ok(())
        }
        "fork" => fork_idle::<S>(folder),
        "fork while reading" => fork_while_reading::<S>(folder),
        _ => bail!("there is no role {role}"),
    }
}

/// What somebody saw, as a word.
fn seen(version: Result<Version>) -> String {
    version.map_or_else(|_| "a mixture or nothing".to_owned(), |version| version.number.to_string())
}

/// Says something and waits for the answer.
fn answer(line: &str) -> Result<String> {
    println!("{line}");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer)
}

/// Writes `count` versions from `first` on, and tells the longest write in ms, and how often it gave up waiting for readers.
fn write<S: System>(folder: &Path, first: u32, count: u32, length: usize) -> Result<()> {
    let mut writer = S::writer(folder)?;
    let (mut longest, mut gave_up) = (0, 0);
    for number in first..first + count {
        let start = Instant::now();
        let written = S::write(&mut writer, Version { number, length })?;
        longest = longest.max(start.elapsed().as_millis());
        gave_up += u32::from(written.gave_up_waiting);
    }
    println!("{longest} {gave_up}");
    Ok(())
}

/// Opens, reads, forks; the forked child reads what was written since, with what it inherited and opened anew.
fn fork_idle<S: System>(folder: &Path) -> Result<()> {
    let mut reader = S::reader(folder)?;
    S::read(&mut reader)?;
    // SAFETY: this process has one thread, so the child may do what it likes.
    if let ForkResult::Parent { child } = unsafe { fork() }? {
        waitpid(child, None)?;
        println!("{}", seen(S::read(&mut reader)));
        return Ok(());
    }
    answer("forked")?;
    println!("{}", seen(S::read(&mut reader)));
    println!("{}", seen(S::reopen(folder)));
    std::process::exit(0);
}

/// Forks in the middle of a read; the child lets go of what its parent was reading, and the parent reads on.
fn fork_while_reading<S: System>(folder: &Path) -> Result<()> {
    let mut reader = S::reader(folder)?;
    let mut forked = false;
    let held = S::hold(&mut reader, || {
        // SAFETY: this process has one thread, so the child may do what it likes.
        match unsafe { fork() }? {
            ForkResult::Child => {
                forked = true;
                Ok(Meanwhile::LetGo)
            }
            ForkResult::Parent { child } => {
                waitpid(child, None)?;
                answer("the child is gone")?;
                Ok(Meanwhile::ReadOn)
            }
        }
    });
    if forked {
        std::process::exit(0);
    }
    println!("{}", seen(held));
    // Lets others look at what is left while this process lives on.
    answer("done").map(|_| ())
}
