//! What one changed flag of many costs flagsd, measured:
//!
//! ```text
//! cargo test --release -p flagsd --test flagsd -- --ignored --nocapture one_changed_flag_is_timed
//! ```

use std::fs;
use std::time::{Duration, Instant};

use crate::control_plane::ControlPlane;
use crate::harness::{Daemon, Host, read};

const CHANGES: usize = 60;

#[test]
#[ignore = "a measurement: of a release build, on a quiet machine"]
fn one_changed_flag_is_timed() {
    for count in [1_000, 10_000, 100_000] {
        let keys: Vec<String> = (0..count).map(|n| format!("flag-{n}")).collect();
        let flags: Vec<(&str, i64)> = keys.iter().map(|key| (key.as_str(), 1)).collect();
        let plane = ControlPlane::start(&flags);
        let mut host = Host::new();
        host.source(&plane.signed_source());
        let daemon = host.start();
        daemon.wait_for_status("the flags", |status| status["flags"] == count);
        let client = host.client();
        let mut took = Vec::new();
        let (mut compiled, mut published) = (Vec::new(), Vec::new());
        let mut busy = Duration::ZERO;
        for n in 0..CHANGES + 5 {
            let key = &keys[n * 7_919 % count];
            let (before, times) = changes(&daemon);
            let (compile, publish) = (seconds(&daemon, "compile"), seconds(&daemon, "publish"));
            let since = cpu(&daemon);
            let value = i64::try_from(n).expect("few") + 2;
            plane.set(key, value);
            let until = Instant::now() + Duration::from_secs(30);
            while read(&client, key) != value {
                assert!(Instant::now() < until, "{}", daemon.log());
                std::thread::sleep(Duration::from_millis(2));
            }
            // Asked once all of it is done.
            let (after, times_now) = changes(&daemon);
            assert_eq!(times_now, times + 1, "each by itself");
            // The first ones meet memory that was never touched.
            if n >= 5 {
                took.push(after - before);
                compiled.push(seconds(&daemon, "compile") - compile);
                published.push(seconds(&daemon, "publish") - publish);
                busy += cpu(&daemon) - since;
            }
        }
        let rest =
            took.iter().zip(compiled.iter().zip(&published)).map(|(all, (compile, publish))| all - compile - publish);
        let mut rest: Vec<f64> = rest.collect();
        for times in [&mut took, &mut compiled, &mut published, &mut rest] {
            times.sort_by(f64::total_cmp);
        }
        let of = |times: &[f64], share: usize| times[(times.len() - 1) * share / 100] * 1e3;
        let at = |share| of(&took, share);
        let memory = resident(&daemon);
        println!(
            "{count} flags: {:.3} ms median, {:.3} ms p90, {:.3} ms at most, from receipt to publication; {:.2} ms of \
             processor for all of a change; {memory} MiB resident",
            at(50),
            at(90),
            at(100),
            busy.as_secs_f64() * 1e3 / CHANGES as f64,
        );
        for (what, times) in [("compiling", &compiled), ("publishing", &published), ("all else of it", &rest)] {
            println!("  {what}: {:.3} ms at best, {:.3} ms median", of(times, 0), of(times, 50));
        }
    }
}

/// Seconds that changes took altogether, and how many there were.
fn changes(daemon: &Daemon) -> (f64, usize) {
    (seconds(daemon, "change"), sample(daemon, "flagsd_change_seconds_count").parse().expect("a number"))
}

/// Seconds that something took altogether.
fn seconds(daemon: &Daemon, what: &str) -> f64 {
    sample(daemon, &format!("flagsd_{what}_seconds_sum")).parse().expect("a number")
}

fn sample(daemon: &Daemon, name: &str) -> String {
    let (_, page) = daemon.try_get("/metrics").expect("metrics");
    let start = format!("{name}{{set=\"default\"}} ");
    page.lines().find_map(|line| line.strip_prefix(start.as_str())).expect("the sample").to_owned()
}

/// Processor time of flagsd.
fn cpu(daemon: &Daemon) -> Duration {
    let text = fs::read_to_string(format!("/proc/{}/schedstat", daemon.pid())).expect("is there");
    Duration::from_nanos(text.split(' ').next().expect("a number").parse().expect("a number"))
}

fn resident(daemon: &Daemon) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("is there");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") / 1_024
}
