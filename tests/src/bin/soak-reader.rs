//! `soak-reader STORE ANSWERS THREADS`: reads the flags of a soak without a pause until its standard input ends, and compares
//! each answer with the table of the round that the pinned version names. See [`libflags_tests::processes`] for what it
//! says; the generation there is the round.

use std::io::{Read, Write};
use std::path::Path;
use std::process::exit;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context as _, Result, bail, ensure};
use libflags::{Client, Context, Want};
use libflags_tests::compiled::Asked;
use libflags_tests::processes::Progress;
use libflags_tests::soak::{ROUND, Row, Table, text_of};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, store, answers, threads] = arguments.as_slice() else { bail!("usage: soak-reader STORE ANSWERS THREADS") };
    let client: &Client = Box::leak(Box::new(Client::open(Some(Path::new(store)))?));
    let places = (0..threads.parse::<usize>()?).map(|_| Mutex::default()).collect();
    let progress: &Vec<Mutex<Progress>> = Box::leak(Box::new(places));
    for place in progress {
        let answers = Path::new(answers).to_owned();
        thread::spawn(move || {
            if let Err(wrong) = read_on(client, &answers, place) {
                eprintln!("soak-reader: {wrong:#}");
                exit(1);
            }
        });
    }
    let (end, ended) = channel::<()>();
    thread::spawn(move || {
        // Nothing is ever written there: it ends.
        let _ = std::io::stdin().read(&mut [0]);
        drop(end);
    });
    let mut output = std::io::stdout();
    while ended.recv_timeout(Duration::from_millis(5)) == Err(RecvTimeoutError::Timeout) {
        let now = progress.iter().map(|place| *place.lock().unwrap_or_else(PoisonError::into_inner));
        let total = now.clone().map(|progress| progress.total).sum::<u64>();
        let slowest = now.clone().map(|progress| progress.slowest).min().unwrap_or_default();
        let round = now.map(|progress| progress.generation).min().unwrap_or_default();
        writeln!(output, "progress {slowest} {round} {total}")?;
        output.flush()?;
    }
    exit(0)
}

fn read_on(client: &Client, answers: &Path, place: &Mutex<Progress>) -> Result<()> {
    let nobody = Context::anonymous();
    let by_handle = client.flag(ROUND);
    let (mut generation, mut round, mut table, mut evaluations) = (0, 0, Table::default(), 0);
    loop {
        let flags = client.snapshot();
        let newer = u64::try_from(flags.int(ROUND, &nobody, 0))?;
        ensure!(flags.generation() >= generation, "generation {} after {generation}", flags.generation());
        ensure!(newer > 0, "generation {} names no round", flags.generation());
        ensure!(newer >= round, "round {newer} after {round}");
        generation = flags.generation();
        if newer > round {
            round = newer;
            let path = answers.join(round.to_string());
            let text = fs::read_to_string(&path).with_context(|| format!("no answers of round {round}"))?;
            table = Table::parse(&text).with_context(|| format!("{} is no table", path.display()))?;
        }
        for row in &table.rows {
            let found = text_of(&flags.evaluate(&row.key, row.want(), &Asked(&table.subjects[row.subject])));
            ensure!(found == row.answer, "round {round}, generation {generation}: {row:?}\nis answered {found}");
        }
        evaluations += table.rows.len() as u64;
        // The client itself, where no update comes between.
        let live = unpinned(client, &table);
        let number = by_handle.int(&nobody, 0);
        if client.snapshot().generation() == generation {
            let right = u64::try_from(number) == Ok(round);
            ensure!(right, "round {round}, generation {generation}: by handle it is round {number}");
            if let Some((row, found)) = live {
                bail!("round {round}, generation {generation}: {row:?}\nis answered {found} by the client");
            }
            evaluations += table.rows.len() as u64 + 1;
        }
        let now = Progress { slowest: evaluations, generation: round, total: evaluations };
        *place.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

/// The first row whose value the client answers otherwise: the value, or that the default stands.
fn unpinned<'t>(client: &Client, table: &'t Table) -> Option<(&'t Row, String)> {
    const DEFAULT: &str = "the caller's";
    table.rows.iter().find_map(|row| {
        let asked = Asked(&table.subjects[row.subject]);
        let given = |value: Option<&str>| value.map_or("-".to_owned(), hexadecimal);
        let found = match row.want() {
            Want::Bool => {
                let (one, other) = (client.bool(&row.key, &asked, true), client.bool(&row.key, &asked, false));
                if one == other { format!("bool:{one}") } else { "-".to_owned() }
            }
            Want::Int => match client.int(&row.key, &asked, i64::MIN) {
                i64::MIN => "-".to_owned(),
                number => format!("int:{number}"),
            },
            Want::Float => match client.float(&row.key, &asked, f64::INFINITY) {
                f64::INFINITY => "-".to_owned(),
                number => format!("float:{:016x}", number.to_bits()),
            },
            Want::Text => match client.string(&row.key, &asked, DEFAULT) {
                text if text == DEFAULT => "-".to_owned(),
                text => format!("text:{}", hexadecimal(&text)),
            },
            _ => client.with_object(&row.key, &asked, |text| match text {
                None => given(None),
                Some(text) => format!("json:{}", given(Some(text))),
            }),
        };
        (found != row.value().unwrap_or("-")).then_some((row, found))
    })
}

fn hexadecimal(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}
