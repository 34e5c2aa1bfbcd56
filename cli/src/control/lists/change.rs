//! What makes a list of an environment what a file says.
//!
//! ```text
//! the control plane's `content` is the file's ──► nothing differs
//! another number of ids ──► they differ
//! the same number ──► all are asked for, and hashed as they come: a list that was changed in batches calls the same ids otherwise
//! ```

use std::io::Read;

use flags_sync::{PartHash, list::PartHasher};
use serde_json::{Value, json};

use std::collections::BTreeMap;

use super::{Local, Segments, path};
use crate::{
    control::{
        client::{Control, WriteArguments},
        segment::Ids,
    },
    failure::Failure,
};

/// A list that is not what its file says.
#[derive(Debug)]
pub(in crate::control) struct Change<'l> {
    pub(in crate::control) list: &'l Local,
    /// The segment, where there is one.
    pub(in crate::control) before: Option<Value>,
    /// Whether there are other ids in it. Else it was archived.
    ids_differ: bool,
}

/// The lists that are not what their files say.
///
/// # Errors
/// Where one is a segment that is a rule.
pub(in crate::control) fn changes<'l>(
    control: &Control,
    environment: &str,
    lists: &'l BTreeMap<String, Local>,
    segments: &Segments,
) -> Result<Vec<Change<'l>>, Failure> {
    let mut changes = Vec::new();
    for (key, list) in lists {
        let before = segments.0.get(key).cloned();
        let ids_differ = match &before {
            Some(segment) if segment["kind"] != "list" => {
                let file = list.path.display();
                return Err(Failure::new(format!(
                    "{file}: the segment {key:?} of {environment} is a rule, and has no ids"
                )));
            }
            Some(segment) => differs(control, environment, list, segment)?,
            None => list.ids > 0,
        };
        if ids_differ || before.as_ref().is_none_or(|segment| segment["archived"] == true) {
            changes.push(Change { list, before, ids_differ });
        }
    }
    Ok(changes)
}

fn differs(control: &Control, environment: &str, list: &Local, segment: &Value) -> Result<bool, Failure> {
    if segment["content"] == list.content().to_string() {
        return Ok(false);
    }
    if segment["ids"].as_u64() != Some(list.ids) {
        return Ok(true);
    }
    if list.ids == 0 {
        return Ok(false);
    }
    Ok(hash(control.download(&path(control, environment, &[&list.key, "ids"])?)?)? != list.whole)
}

fn hash(mut ids: impl Read) -> Result<PartHash, Failure> {
    let mut hasher = PartHasher::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match ids.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) => return Err(Failure::new(format!("the control plane has not sent all ids: {error}"))),
        }
    }
}

impl Change<'_> {
    /// Member, before, after.
    pub(in crate::control) fn aspects(&self) -> Vec<(String, Value, Value)> {
        let before = |name: &str| self.before.as_ref().map_or(Value::Null, |segment| segment[name].clone());
        if !self.ids_differ {
            return Vec::new();
        }
        let content = json!(self.list.content().to_string());
        vec![
            ("ids".to_owned(), before("ids"), json!(self.list.ids)),
            ("content".to_owned(), before("content"), content),
        ]
    }

    pub(in crate::control) fn key(&self) -> &str {
        &self.list.key
    }

    pub(in crate::control) fn is_new(&self) -> bool {
        self.before.is_none()
    }

    pub(in crate::control) fn is_archived(&self) -> bool {
        self.before.as_ref().is_some_and(|segment| segment["archived"] == true)
    }

    /// Lets the control plane check as much as it can before there is anything new.
    pub(in crate::control) fn check(
        &self,
        control: &Control,
        environment: &str,
        write: &WriteArguments,
    ) -> Result<(), Failure> {
        let dry = WriteArguments { dry_run: true, ..write.clone() };
        match &self.before {
            None => self.create(control, environment, &dry).map(drop),
            Some(_) if self.is_archived() || !self.ids_differ => Ok(()),
            Some(segment) => self.upload(control, environment, &dry, segment["revision"].as_i64()).map(drop),
        }
    }

    /// Makes it so, if nobody has changed it since it was looked at.
    pub(in crate::control) fn make(
        &self,
        control: &Control,
        environment: &str,
        write: &WriteArguments,
    ) -> Result<(), Failure> {
        let mut revision = match &self.before {
            None => self.create(control, environment, write)?,
            Some(segment) => segment["revision"].as_i64(),
        };
        if self.is_archived() {
            let path = path(control, environment, &[&self.list.key, "restore"])?;
            revision = control.write("POST", &path, None, write, revision)?.revision;
        }
        if self.ids_differ {
            let done = self.upload(control, environment, write, revision)?;
            if done["content"] != self.list.content().to_string() {
                let file = self.list.path.display();
                return Err(Failure::new(format!("{file} has changed since the plan was made")).hint("run it again"));
            }
        }
        Ok(())
    }

    fn create(&self, control: &Control, environment: &str, write: &WriteArguments) -> Result<Option<i64>, Failure> {
        let body = json!({"key": self.list.key, "kind": "list"});
        Ok(control.write("POST", &path(control, environment, &[])?, Some(&body), write, None)?.revision)
    }

    fn upload(
        &self,
        control: &Control,
        environment: &str,
        write: &WriteArguments,
        revision: Option<i64>,
    ) -> Result<Value, Failure> {
        let mut ids = Ids::of_list(&self.list.path, self.list.format())?;
        let path = path(control, environment, &[&self.list.key, "ids"])?;
        let done = control.upload("PUT", &path, &mut ids, write, revision);
        ids.end()?;
        Ok(done.map_err(|failure| failure.within(&self.list.path.display().to_string()))?.body)
    }
}
