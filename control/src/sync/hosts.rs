//! What the hosts of an environment say they have published, as this replica was told: in memory, and gone with it.
//!
//! Behind a load balancer one report comes here and the next goes elsewhere, so what a host said last may be old news. Whether it is behind is
//! therefore judged when it speaks, and only those who spoke lately are counted: what was true then is not made false by what another replica heard.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

use flags_sync::EventId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Of one environment; where more speak, those who spoke longest ago are forgotten.
const MOST: usize = 20_000;

/// Who has not spoken for a day is forgotten.
const FORGOTTEN_MS: i64 = 24 * 3_600 * 1_000;

/// Who has not spoken for so long is not counted any more. Hosts say the same again every five minutes.
const COUNTED_MS: i64 = 12 * 60 * 1_000;

/// What a host says.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// The host's name.
    pub(crate) host: String,
    /// The flag set of flagsd there.
    pub(crate) set: String,
    pub(crate) epoch: u64,
    /// What it has published.
    pub(crate) revision: u64,
    /// When it did, by its clock, in nanoseconds since 1970.
    pub(crate) published_ns: u64,
    /// When the first change was made that led to it; absent where it came otherwise than by changes.
    #[serde(default)]
    pub(crate) changed_ms: Option<u64>,
    pub(crate) state: HostState,
    /// Of flagsd.
    pub(crate) version: String,
}

/// How a host's flag set is.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum HostState {
    Fresh,
    /// Not confirmed for too long.
    Stale,
    /// Somebody there froze it, or took it back.
    Frozen,
}

/// A host as the API shows it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HostView {
    pub(crate) host: String,
    pub(crate) set: String,
    epoch: u64,
    /// What it has published.
    revision: u64,
    /// When it did, by its clock.
    published_ms: u64,
    /// From the first change that led to it to its publication, by both clocks; absent where it came otherwise than by changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    lag_ms: Option<u64>,
    /// When it last said so.
    reported_ms: i64,
    /// When it said so, what it has published was too old.
    pub(crate) behind: bool,
    /// When it said so, what it has published was not known here: a database has lost it, and hosts take nothing older.
    pub(crate) ahead: bool,
    state: HostState,
    /// Of flagsd.
    version: String,
}

/// How many hosts have spoken lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) all: usize,
    /// Of them, when they spoke.
    pub(crate) behind: usize,
    pub(crate) ahead: usize,
}

/// The hosts of an environment.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    /// By host and set.
    known: Mutex<BTreeMap<(String, String), HostView>>,
}

impl Report {
    pub(crate) fn position(&self) -> EventId {
        EventId { epoch: self.epoch, revision: self.revision }
    }

    /// From the change to its publication, by both clocks.
    pub(crate) fn lag_ms(&self) -> Option<u64> {
        Some((self.published_ns / 1_000_000).saturating_sub(self.changed_ms?))
    }
}

impl Hosts {
    /// Takes a report that came at `now_ms`; what is older than the first state of `good` is behind, what is newer than the last ahead.
    pub(crate) fn take(&self, report: Report, good: RangeInclusive<EventId>, now_ms: i64) {
        let view = HostView {
            epoch: report.epoch,
            revision: report.revision,
            published_ms: report.published_ns / 1_000_000,
            lag_ms: report.lag_ms(),
            reported_ms: now_ms,
            behind: report.position() < *good.start(),
            ahead: report.position() > *good.end(),
            state: report.state,
            version: report.version,
            host: report.host.clone(),
            set: report.set.clone(),
        };
        let mut known = self.lock();
        let key = (report.host, report.set);
        // Told again, a publication comes without the time of its change.
        let same = known.get(&key).filter(|before| (before.epoch, before.revision) == (view.epoch, view.revision));
        let lag_ms = view.lag_ms.or(same.and_then(|before| before.lag_ms));
        if known.len() >= MOST && !known.contains_key(&key) {
            make_room(&mut known);
        }
        known.insert(key, HostView { lag_ms, ..view });
    }

    pub(crate) fn counts(&self, now_ms: i64) -> Counts {
        let known = self.lock();
        let lately = known.values().filter(|host| host.reported_ms > now_ms - COUNTED_MS);
        lately.fold(Counts::default(), |Counts { all, behind, ahead }, host| Counts {
            all: all + 1,
            behind: behind + usize::from(host.behind),
            ahead: ahead + usize::from(host.ahead),
        })
    }

    /// At most `most` of them in order, after the one whose names are `after`.
    pub(crate) fn list(&self, after: Option<(&str, &str)>, only_behind: bool, most: usize) -> Vec<HostView> {
        let after = after.map(|(host, set)| (host.to_owned(), set.to_owned()));
        let known = self.lock();
        let rest = known.iter().filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after));
        rest.map(|(_, host)| host).filter(|host| host.behind || !only_behind).take(most).cloned().collect()
    }

    /// Forgets those who have not spoken for long.
    pub(crate) fn tidy(&self, now_ms: i64) {
        self.lock().retain(|_, host| host.reported_ms > now_ms - FORGOTTEN_MS);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), HostView>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A tenth at once, so that names that come and go cost little each.
fn make_room(known: &mut BTreeMap<(String, String), HostView>) {
    let mut times: Vec<i64> = known.values().map(|host| host.reported_ms).collect();
    let (_, limit, _) = times.select_nth_unstable(MOST / 10);
    let (limit, mut spare) = (*limit, MOST / 10 + 1);
    known.retain(|_, host| {
        let goes = spare > 0 && host.reported_ms <= limit;
        spare -= usize::from(goes);
        !goes
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(host: &str, revision: u64) -> Report {
        Report {
            host: host.to_owned(),
            set: "default".to_owned(),
            epoch: 1,
            revision,
            published_ns: 5_000_000_000,
            changed_ms: Some(4_990),
            state: HostState::Fresh,
            version: "1".to_owned(),
        }
    }

    fn at(revision: u64) -> RangeInclusive<EventId> {
        EventId { epoch: 1, revision }..=EventId { epoch: 1, revision: 9 }
    }

    fn counts(all: usize, behind: usize, ahead: usize) -> Counts {
        Counts { all, behind, ahead }
    }

    #[test]
    fn a_host_is_judged_when_it_speaks_and_counted_for_a_while() {
        let hosts = Hosts::default();
        hosts.take(report("a", 7), at(7), 0);
        hosts.take(report("b", 6), at(7), 1);
        assert_eq!(hosts.counts(2), counts(2, 1, 0));
        hosts.take(Report { changed_ms: None, ..report("a", 7) }, at(7), 0);
        hosts.take(report("b", 7), at(7), 2);
        assert_eq!(hosts.counts(3), counts(2, 0, 0));
        // An older epoch is older, whatever the revision.
        hosts.take(Report { epoch: 0, ..report("a", 9) }, at(7), 3);
        assert_eq!(hosts.counts(3), counts(2, 1, 0));
        assert_eq!(hosts.counts(COUNTED_MS + 2), counts(1, 1, 0));
        hosts.take(report("c", 10), at(7), 2);
        assert_eq!(hosts.counts(3), counts(3, 1, 1));
        hosts.tidy(FORGOTTEN_MS + 2);
        let names: Vec<_> = hosts.list(None, false, 9).into_iter().map(|host| (host.host, host.lag_ms)).collect();
        assert_eq!(names, [("a".to_owned(), Some(10))]);
    }

    #[test]
    fn a_list_goes_on_after_a_name() {
        let hosts = Hosts::default();
        for (host, set) in [("b", "x"), ("a", "y"), ("a", "x"), ("c", "x")] {
            hosts.take(Report { set: set.to_owned(), ..report(host, 1) }, at(if host == "c" { 2 } else { 1 }), 0);
        }
        let names = |hosts: Vec<HostView>| hosts.into_iter().map(|host| host.host + &host.set).collect::<Vec<_>>();
        assert_eq!(names(hosts.list(None, false, 2)), ["ax", "ay"]);
        assert_eq!(names(hosts.list(Some(("a", "y")), false, 9)), ["bx", "cx"]);
        assert_eq!(names(hosts.list(None, true, 9)), ["cx"]);
    }

    #[test]
    fn those_who_spoke_longest_ago_make_room() {
        let hosts = Hosts::default();
        for number in 0..=MOST {
            hosts.take(report(&format!("h{number:05}"), 1), at(1), i64::try_from(number).expect("fits") / 3);
        }
        let left = hosts.list(None, false, usize::MAX);
        assert_eq!(left.len(), MOST - MOST / 10);
        assert!(left.iter().all(|host| host.reported_ms >= i64::try_from(MOST / 30).expect("fits")));
        assert!(left.iter().any(|host| host.host == format!("h{MOST:05}")), "the newest stays");
    }
}
