//! `/api/v1/projects/PROJECT/flags` and `…/environments/ENVIRONMENT/flags`

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::place::{known_project, readable, writable, writable_project};
use super::request::{Answer, Asked, Items, Write, page_limit};
use crate::app::App;
use crate::auth::Access;
use crate::definition::Configured;
use crate::model::{Config, Flag, FlagBody, FlagKind, FlagState, FlagType, patched};
use crate::parse::parse_value;
use crate::problem::Problem;
use crate::resource::change::Author;
use crate::resource::environment::Environment;
use crate::resource::project::Project;
use crate::resource::token::Scope;
use crate::resource::{change, flag};
use crate::store::{StoreError, Transaction};

/// What a flag is made from.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(crate) struct NewFlag {
    key: String,
    /// What it does, by environment; where nothing is said it is disabled.
    #[serde(default)]
    environments: BTreeMap<String, Config>,
    #[serde(flatten)]
    body: serde_json::Map<String, Json>,
}

/// Which flags, in which order.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Which {
    cursor: String,
    limit: Option<i64>,
    search: String,
    archived: bool,
    owner: Option<String>,
    tag: Option<String>,
    kind: Option<FlagKind>,
    #[serde(rename = "type")]
    flag_type: Option<FlagType>,
    expires_before_ms: Option<i64>,
    sort: flag::Sort,
}

/// Which configurations of an environment.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WhichConfigs {
    cursor: String,
    limit: Option<i64>,
    state: Option<FlagState>,
    /// Those of archived flags instead.
    archived: bool,
}

/// A configuration in a list.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ListedConfig {
    key: String,
    #[serde(flatten)]
    config: Config,
    revision: i64,
}

/// A configuration as the API shows it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ConfigurationView")]
pub(crate) struct ConfigView<'c> {
    #[serde(flatten)]
    config: &'c Config,
    revision: i64,
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    access: Access,
    Path(project): Path<String>,
    Asked(which): Asked<Which>,
) -> Result<Answer, Problem> {
    let limit = page_limit(which.limit)?;
    let sort = which.sort;
    let flags = app.store.read(move |transaction| {
        let project = known_project(transaction, &access, &project)?;
        access.may_read_of(&project)?;
        let filter = flag::Filter {
            after: which.cursor,
            search: which.search,
            archived: which.archived,
            owner: which.owner,
            tag: which.tag,
            kind: which.kind,
            flag_type: which.flag_type,
            expires_before_ms: which.expires_before_ms,
            sort,
            limit: limit + 1,
        };
        flag::list(transaction, &project, &filter)
    });
    let Items { items, next } = Items::new(flags.await?, limit, |flag: &Flag| sort.cursor(flag));
    Answer::ok(&Items { items: items.iter().map(Flag::view).collect(), next })
}

pub(super) async fn create(
    State(app): State<Arc<App>>,
    Path(project): Path<String>,
    write: Write,
) -> Result<Answer, Problem> {
    let new = write.json::<NewFlag>()?;
    let body: FlagBody = parse_value(Json::Object(new.body))?;
    write
        .run(&app, move |transaction, write| {
            let project = writable_project(transaction, &write.access, Scope::Write, &project)?;
            let flag = flag::create(transaction, &project, &new.key, body, new.environments, &write.author)?;
            answer(StatusCode::CREATED, &flag)
        })
        .await
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    access: Access,
    Path((project, key)): Path<(String, String)>,
) -> Result<Answer, Problem> {
    let found = app.store.read(move |transaction| {
        let project = known_project(transaction, &access, &project)?;
        access.may_read_of(&project)?;
        flag::find(transaction, &project, &key)
    });
    answer(StatusCode::OK, &found.await?)
}

fn answer(status: StatusCode, flag: &Flag) -> Result<Answer, Problem> {
    Ok(Answer::new(status, &flag.view())?.with_revision(flag.version))
}

pub(super) async fn put(
    State(app): State<Arc<App>>,
    Path((project, key)): Path<(String, String)>,
    write: Write,
) -> Result<Answer, Problem> {
    let body: FlagBody = write.json()?;
    write
        .run(&app, move |transaction, write| {
            let (project, flag) = writable_flag(transaction, write, &project, &key)?;
            write.require_revision(flag.version)?;
            answer(StatusCode::OK, &flag::update(transaction, &project, &flag, body, &write.author)?)
        })
        .await
}

pub(super) async fn patch(
    State(app): State<Arc<App>>,
    Path((project, key)): Path<(String, String)>,
    write: Write,
) -> Result<Answer, Problem> {
    let patch: Json = write.json()?;
    write
        .run(&app, move |transaction, write| {
            let (project, flag) = writable_flag(transaction, write, &project, &key)?;
            write.check_revision(flag.version)?;
            let body = patched(&flag.body, patch)?;
            answer(StatusCode::OK, &flag::update(transaction, &project, &flag, body, &write.author)?)
        })
        .await
}

pub(super) async fn archive(
    State(app): State<Arc<App>>,
    Path((project, key)): Path<(String, String)>,
    write: Write,
) -> Result<Answer, Problem> {
    come_or_go(app, project, key, write, flag::archive).await
}

pub(super) async fn restore(
    State(app): State<Arc<App>>,
    Path((project, key)): Path<(String, String)>,
    write: Write,
) -> Result<Answer, Problem> {
    come_or_go(app, project, key, write, flag::restore).await
}

type ComeOrGo = fn(&mut dyn Transaction, &Project, &Flag, &Author) -> Result<Flag, Problem>;

async fn come_or_go(
    app: Arc<App>,
    project: String,
    key: String,
    write: Write,
    how: ComeOrGo,
) -> Result<Answer, Problem> {
    write
        .run(&app, move |transaction, write| {
            let (project, flag) = writable_flag(transaction, write, &project, &key)?;
            write.check_revision(flag.version)?;
            answer(StatusCode::OK, &how(transaction, &project, &flag, &write.author)?)
        })
        .await
}

fn writable_flag(
    transaction: &mut dyn Transaction,
    write: &Write,
    project: &str,
    key: &str,
) -> Result<(Project, Flag), Problem> {
    let project = writable_project(transaction, &write.access, Scope::Write, project)?;
    let flag = flag::find(transaction, &project, key)?;
    Ok((project, flag))
}

pub(super) async fn show_config(
    State(app): State<Arc<App>>,
    access: Access,
    Path((project, environment, key)): Path<(String, String, String)>,
) -> Result<Answer, Problem> {
    let found = app.store.read(move |transaction| {
        let (project, environment) = readable(transaction, &access, &project, &environment)?;
        let flag = flag::find(transaction, &project, &key)?;
        config(transaction, &environment, &flag)
    });
    let (config, revision) = found.await?;
    config_answer(&config, revision)
}

fn config_answer(config: &Config, revision: i64) -> Result<Answer, Problem> {
    Ok(Answer::ok(&ConfigView { config, revision })?.with_revision(revision))
}

fn config(transaction: &mut dyn Transaction, environment: &Environment, flag: &Flag) -> Result<(Config, i64), Problem> {
    let found = change::config(transaction, environment.id, flag.id)?;
    found.ok_or_else(|| StoreError::Broken(format!("{} has no configuration", flag.key)).into())
}

pub(super) async fn list_configs(
    State(app): State<Arc<App>>,
    access: Access,
    Path((project, environment)): Path<(String, String)>,
    Asked(which): Asked<WhichConfigs>,
) -> Result<Answer, Problem> {
    let limit = page_limit(which.limit)?;
    let found = app.store.read(move |transaction| {
        let (_, environment) = readable(transaction, &access, &project, &environment)?;
        let WhichConfigs { cursor, state, archived, .. } = which;
        Ok::<_, Problem>(flag::configs(transaction, environment.id, state, archived, &cursor, limit + 1)?)
    });
    let listed = |(Configured { flag, config }, revision)| ListedConfig { key: flag.key, config, revision };
    let items = found.await?.into_iter().map(listed).collect();
    Answer::ok(&Items::new(items, limit, |config| config.key.clone()))
}

pub(super) async fn put_config(
    State(app): State<Arc<App>>,
    Path((project, environment, key)): Path<(String, String, String)>,
    write: Write,
) -> Result<Answer, Problem> {
    let new: Config = write.json()?;
    configure(&app, write, project, environment, key, move |write, _, revision| {
        write.require_revision(revision)?;
        Ok(new)
    })
    .await
}

pub(super) async fn patch_config(
    State(app): State<Arc<App>>,
    Path((project, environment, key)): Path<(String, String, String)>,
    write: Write,
) -> Result<Answer, Problem> {
    let patch: Json = write.json()?;
    configure(&app, write, project, environment, key, move |write, old, revision| {
        write.check_revision(revision)?;
        patched(old, patch)
    })
    .await
}

/// Gives a flag the configuration that `new` makes of the old one and its revision.
async fn configure<N>(
    app: &App,
    write: Write,
    project: String,
    environment: String,
    key: String,
    new: N,
) -> Result<Answer, Problem>
where
    N: FnOnce(&Write, &Config, i64) -> Result<Config, Problem> + Send + 'static,
{
    let path = format!("{project}/{environment}");
    write
        .run_at(app, &path, move |transaction, write| {
            let (project, environment) = writable(transaction, &write.access, &project, &environment)?;
            let flag = flag::find(transaction, &project, &key)?;
            let (old, revision) = config(transaction, &environment, &flag)?;
            let new = new(write, &old, revision)?;
            if new == old {
                return config_answer(&old, revision);
            }
            let revision = flag::configure(transaction, &environment, &flag, old, new.clone(), &write.author)?;
            config_answer(&new, change::integer(revision)?)
        })
        .await
}
