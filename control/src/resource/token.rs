//! Tokens: who may do what, where.
//!
//! A token's text is `flags_ID_SECRET`. The ID finds the row; of the SECRET, 32 random bytes, only the hash is kept.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::clock::now_ms;
use crate::model::check_text;
use crate::problem::Problem;
use crate::store::{News, Row, StoreError, Transaction, Value};

/// What a token is good for; each but `sync` includes those below it, and all include `sync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scope {
    /// Snapshots and streams, for hosts.
    Sync,
    Read,
    Write,
    /// Tokens, projects and environments too.
    Admin,
}

impl Scope {
    fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Sync, Self::Read, Self::Write, Self::Admin].into_iter().find(|scope| scope.as_str() == text)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a token is for: everything, a project, or one environment of it. What it is good for it is good for there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) project_id: Option<i64>,
    pub(crate) environment_id: Option<i64>,
}

impl Place {
    /// Whether `other` is this place, or a part of it.
    pub(crate) fn covers(self, other: Self) -> bool {
        let fits = |own: Option<i64>, other: Option<i64>| own.is_none() || own == other;
        fits(self.project_id, other.project_id) && fits(self.environment_id, other.environment_id)
    }
}

/// A token as it is stored.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) scope: Scope,
    /// The keys of what it is for; absent: everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<String>,
    #[serde(skip)]
    pub(crate) place: Place,
    pub(crate) created_ms: i64,
    pub(crate) expires_ms: Option<i64>,
    pub(crate) revoked_ms: Option<i64>,
    pub(crate) used_ms: Option<i64>,
    /// Counts its changes; its ETag. Being used is none.
    pub(crate) version: i64,
    #[serde(skip)]
    hash: Vec<u8>,
}

/// What is shown once: the whole token.
#[derive(Debug)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

const COLUMNS: &str = "id, name, scope, project_id, environment_id, created_ms, expires_ms, revoked_ms, used_ms, hash, \
                       (SELECT key FROM project WHERE project.id = token.project_id), \
                       (SELECT key FROM environment WHERE environment.id = token.environment_id), version";

impl Token {
    /// Whether it can be used now.
    pub(crate) fn is_alive(&self, now_ms: i64) -> bool {
        self.revoked_ms.is_none_or(|at| at > now_ms) && self.expires_ms.is_none_or(|at| at > now_ms)
    }

    /// Whether `secret` is this token's; takes as long whatever the answer.
    pub(crate) fn has_secret(&self, secret: &str) -> bool {
        Sha256::digest(secret.as_bytes()).as_slice().ct_eq(&self.hash).into()
    }
}

/// The ID and secret of a token's text.
pub(crate) fn split(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix("flags_")?.split_once('_').filter(|(id, secret)| id.len() == 16 && secret.len() == 43)
}

/// Makes a token; what comes with it is shown once and never again.
pub(crate) fn create(
    transaction: &mut dyn Transaction,
    name: &str,
    scope: Scope,
    place: Place,
    expires_ms: Option<i64>,
) -> Result<(Token, Secret), Problem> {
    check_text(name, "/name")?;
    if expires_ms.is_some_and(|at| at <= now_ms()) {
        return Err(Problem::invalid("/expiresMs", "is in the past"));
    }
    let mut random = [0; 40];
    getrandom::fill(&mut random).map_err(|error| StoreError::Broken(format!("no random bytes: {error}")))?;
    let (id, secret) = random.split_at(8);
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let secret = URL_SAFE_NO_PAD.encode(secret);
    let text = Secret(format!("flags_{id}_{secret}"));
    let hash = Sha256::digest(secret.as_bytes());
    let values = [
        id.as_str().into(),
        name.into(),
        scope.as_str().into(),
        place.project_id.into(),
        place.environment_id.into(),
        now_ms().into(),
        expires_ms.into(),
        Value::from(hash.as_slice()),
    ];
    let sql = "INSERT INTO token (id, name, scope, project_id, environment_id, created_ms, expires_ms, hash) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    transaction.execute(sql, &values)?;
    let token =
        find(transaction, &id)?.ok_or_else(|| StoreError::Broken("a token that was made is gone".to_owned()))?;
    Ok((token, text))
}

/// Ends a token, which the caller has locked, at a time, now or after an overlap. One that ends earlier anyway stays so.
pub(crate) fn revoke(transaction: &mut dyn Transaction, token: &Token, at_ms: i64) -> Result<Token, Problem> {
    if token.revoked_ms.is_some_and(|revoked| revoked <= at_ms) {
        return Ok(token.clone());
    }
    let ended = Token { revoked_ms: Some(at_ms), version: token.version + 1, ..token.clone() };
    let values = [at_ms.into(), ended.version.into(), token.id.as_str().into()];
    transaction.execute("UPDATE token SET revoked_ms = $1, version = $2 WHERE id = $3", &values)?;
    transaction.notify(News::Tokens)?;
    Ok(ended)
}

/// A new token like one that the caller has locked, which goes on for `overlap_ms`. It ends at `expires_ms`, or when the old one would have.
pub(crate) fn rotate(
    transaction: &mut dyn Transaction,
    old: &Token,
    overlap_ms: i64,
    expires_ms: Option<i64>,
) -> Result<(Token, Secret), Problem> {
    if !old.is_alive(now_ms()) {
        return Err(Problem::conflict("the token has ended already"));
    }
    let made = create(transaction, &old.name, old.scope, old.place, expires_ms.or(old.expires_ms))?;
    revoke(transaction, old, now_ms().saturating_add(overlap_ms))?;
    Ok(made)
}

pub(crate) fn find(transaction: &mut dyn Transaction, id: &str) -> Result<Option<Token>, StoreError> {
    find_with(transaction, id, "")
}

fn find_with(transaction: &mut dyn Transaction, id: &str, locks: &str) -> Result<Option<Token>, StoreError> {
    transaction.row(&format!("SELECT {COLUMNS} FROM token WHERE id = $1{locks}"), &[id.into()])?.map(from).transpose()
}

/// # Errors
/// 404 where there is none of this id in the place: of those elsewhere nothing is told.
pub(crate) fn find_in(transaction: &mut dyn Transaction, place: Place, id: &str) -> Result<Token, Problem> {
    in_place(find(transaction, id)?, place, id)
}

/// The same, and nobody else changes it until this transaction ends.
pub(crate) fn lock_in(transaction: &mut dyn Transaction, place: Place, id: &str) -> Result<Token, Problem> {
    let locks = transaction.for_update_but_key();
    in_place(find_with(transaction, id, locks)?, place, id)
}

fn in_place(found: Option<Token>, place: Place, id: &str) -> Result<Token, Problem> {
    let not_found = || Problem::not_found(format!("there is no token {id:?}"));
    found.filter(|token| place.covers(token.place)).ok_or_else(not_found)
}

/// At most `limit` of a place after the id `after`, sorted.
pub(crate) fn list(
    transaction: &mut dyn Transaction,
    place: Place,
    after: &str,
    limit: i64,
) -> Result<Vec<Token>, Problem> {
    let mut values: Vec<Value> = vec![after.into(), limit.into()];
    let mut condition = String::new();
    for (column, only) in [("project_id", place.project_id), ("environment_id", place.environment_id)] {
        if let Some(only) = only {
            values.push(only.into());
            condition.push_str(&format!(" AND {column} = ${}", values.len()));
        }
    }
    let sql = format!("SELECT {COLUMNS} FROM token WHERE id > $1{condition} ORDER BY id LIMIT $2");
    transaction.rows(&sql, &values)?.into_iter().map(|row| Ok(from(row)?)).collect()
}

/// Notes when tokens were last used, in milliseconds since 1970.
pub(crate) fn used(transaction: &mut dyn Transaction, uses: &[(String, i64)]) -> Result<(), StoreError> {
    for (id, at_ms) in uses {
        let sql = "UPDATE token SET used_ms = $1 WHERE id = $2 AND (used_ms IS NULL OR used_ms < $1)";
        transaction.execute(sql, &[(*at_ms).into(), id.as_str().into()])?;
    }
    Ok(())
}

fn from(mut row: Row) -> Result<Token, StoreError> {
    let scope = row.text(2)?;
    Ok(Token {
        id: row.text(0)?,
        name: row.text(1)?,
        scope: Scope::parse(&scope).ok_or_else(|| StoreError::Broken(format!("the scope {scope:?} is not known")))?,
        place: Place { project_id: row.optional_integer(3)?, environment_id: row.optional_integer(4)? },
        created_ms: row.integer(5)?,
        expires_ms: row.optional_integer(6)?,
        revoked_ms: row.optional_integer(7)?,
        used_ms: row.optional_integer(8)?,
        hash: row.bytes(9)?,
        project: row.optional_text(10)?,
        environment: row.optional_text(11)?,
        version: row.integer(12)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Direction, Store};

    #[tokio::test]
    async fn being_used_is_no_change_and_ending_is_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let location = format!("sqlite:{}", folder.path().join("db").display()).parse().expect("a location");
        let (store, _news) = Store::open(&location).expect("a database");
        store.migrate(Direction::Up).await.expect("tables");
        let work = |transaction: &mut dyn Transaction| -> Result<(), Problem> {
            let (token, _) = create(transaction, "host", Scope::Sync, Place::default(), None)?;
            used(transaction, &[(token.id.clone(), 17)])?;
            let now = find_in(transaction, Place::default(), &token.id)?;
            assert_eq!((now.used_ms, now.version), (Some(17), 1));
            // Ended later, then earlier; what is later than that is no change.
            assert_eq!(revoke(transaction, &now, 100)?.version, 2);
            let now = find_in(transaction, Place::default(), &token.id)?;
            assert_eq!(revoke(transaction, &now, 50)?.version, 3);
            let now = find_in(transaction, Place::default(), &token.id)?;
            let last = revoke(transaction, &now, 70)?;
            assert_eq!((last.revoked_ms, last.version), (Some(50), 3));
            let of_one = Place { project_id: Some(1), environment_id: None };
            assert_eq!(find_in(transaction, of_one, &token.id).expect_err("it is for all").status().as_u16(), 404);
            Ok(())
        };
        store.write(work).await.expect("all of it");
    }

    #[test]
    fn a_place_covers_itself_and_its_parts() {
        let place = |project_id, environment_id| Place { project_id, environment_id };
        let (all, one, part) = (Place::default(), place(Some(1), None), place(Some(1), Some(2)));
        for (own, other, covers) in [
            (all, part, true),
            (one, one, true),
            (one, part, true),
            (part, part, true),
            (one, all, false),
            (part, one, false),
            (part, place(Some(1), Some(3)), false),
            (one, place(Some(2), None), false),
            (one, place(Some(2), Some(2)), false),
        ] {
            assert_eq!(own.covers(other), covers, "{own:?} {other:?}");
        }
    }
}
