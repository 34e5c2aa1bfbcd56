//! What each operation is for, whom it is for, what it takes and what it gives.

use serde_json::{Map, Value};

use super::{Of, members, of};
use crate::model::{Config, FlagBody};
use crate::resource::change::Entry;
use crate::resource::environment::{EnvironmentBody, EnvironmentView, NewEnvironment};
use crate::resource::flag::FlagView;
use crate::resource::log::Diff;
use crate::resource::project::{NewProject, ProjectBody, ProjectView};
use crate::resource::rollback::RolledBack;
use crate::resource::schedule::{NewSchedule, Schedule};
use crate::resource::segment::{SegmentBody, SegmentView};
use crate::resource::token::Token;
use crate::resource::transfer::Imported;
use crate::routes::request::{Page, Shelf};
use crate::routes::{change, clone, flag, host, log, schedule, segment, token, transfer};
use crate::sync::{HostView, Report};

/// A method of a path.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) id: &'static str,
    pub(super) about: &'static str,
    /// What a token has to be good for; empty: anybody may.
    pub(super) scope: &'static str,
    pub(super) query: Option<Of>,
    pub(super) body: Option<Of>,
    pub(super) status: &'static str,
    pub(super) answer: Answer,
}

/// What comes back.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    One(Of),
    /// A page of these.
    List(Of),
    /// One, with a secret of this name that is told this once.
    WithSecret(Of, &'static str),
    /// An object of these members.
    Members(&'static [(&'static str, Of)]),
    /// Of a media type.
    Text(&'static str),
    Nothing,
}

use Answer::{List, Members, Nothing, One, Text, WithSecret};

type Object = Map<String, Value>;

const fn read(path: &'static str, id: &'static str, about: &'static str, answer: Answer) -> Operation {
    Operation { method: "get", path, id, about, scope: "read", query: None, body: None, status: "200", answer }
}

const fn write(
    method: &'static str,
    path: &'static str,
    id: &'static str,
    about: &'static str,
    body: Option<Of>,
    answer: Answer,
) -> Operation {
    Operation { method, path, id, about, scope: "write", query: None, body, status: "200", answer }
}

impl Operation {
    const fn asks(self, query: Of) -> Self {
        Self { query: Some(query), ..self }
    }

    const fn makes(self) -> Self {
        Self { status: "201", ..self }
    }

    const fn scope(self, scope: &'static str) -> Self {
        Self { scope, ..self }
    }
}

pub(super) const OPERATIONS: &[Operation] = &[
    read("/api/v1/projects", "listProjects", "The projects that the token is for", List(of::<ProjectView<'static>>))
        .asks(members::<Shelf>),
    write(
        "post",
        "/api/v1/projects",
        "createProject",
        "Make a project",
        Some(of::<NewProject>),
        One(of::<ProjectView<'static>>),
    )
    .makes()
    .scope("admin"),
    read("/api/v1/projects/{project}", "showProject", "A project", One(of::<ProjectView<'static>>)),
    write(
        "put",
        "/api/v1/projects/{project}",
        "replaceProject",
        "Replace what a project is called and about; needs If-Match",
        Some(of::<ProjectBody>),
        One(of::<ProjectView<'static>>),
    )
    .scope("admin"),
    write(
        "patch",
        "/api/v1/projects/{project}",
        "changeProject",
        "Change what a project is called and about: a JSON merge patch",
        Some(of::<Object>),
        One(of::<ProjectView<'static>>),
    )
    .scope("admin"),
    write(
        "post",
        "/api/v1/projects/{project}/archive",
        "archiveProject",
        "Let nothing in a project be changed any more; hosts go on with what they have, and its key stays taken",
        None,
        One(of::<ProjectView<'static>>),
    )
    .scope("admin"),
    write(
        "post",
        "/api/v1/projects/{project}/restore",
        "restoreProject",
        "Let an archived project be changed again",
        None,
        One(of::<ProjectView<'static>>),
    )
    .scope("admin"),
    read(
        "/api/v1/projects/{project}/environments",
        "listEnvironments",
        "The environments of a project",
        List(of::<EnvironmentView>),
    )
    .asks(members::<Shelf>),
    write(
        "post",
        "/api/v1/projects/{project}/environments",
        "createEnvironment",
        "Make an environment",
        Some(of::<NewEnvironment>),
        One(of::<EnvironmentView>),
    )
    .makes()
    .scope("admin"),
    read(
        "/api/v1/projects/{project}/environments/{environment}",
        "showEnvironment",
        "An environment, with the key that signs it",
        One(of::<EnvironmentView>),
    ),
    write(
        "patch",
        "/api/v1/projects/{project}/environments/{environment}",
        "patchEnvironment",
        "Change an environment's name and metadata: a JSON merge patch",
        Some(of::<Object>),
        One(of::<EnvironmentView>),
    ),
    write(
        "put",
        "/api/v1/projects/{project}/environments/{environment}",
        "replaceEnvironment",
        "Replace an environment's name and metadata; needs If-Match",
        Some(of::<EnvironmentBody>),
        One(of::<EnvironmentView>),
    ),
    write(
        "post",
        "/api/v1/projects/{project}/environments/{environment}/signing-key",
        "makeNextKey",
        "Make the key that is to sign next; nothing changes for hosts yet",
        None,
        One(of::<EnvironmentView>),
    )
    .makes()
    .scope("admin"),
    write(
        "post",
        "/api/v1/projects/{project}/environments/{environment}/signing-key/rotate",
        "rotateKey",
        "Let the next key sign what hosts get",
        None,
        One(of::<EnvironmentView>),
    )
    .scope("admin"),
    write(
        "post",
        "/api/v1/projects/{project}/environments/{environment}/archive",
        "archiveEnvironment",
        "Let nothing in an environment be changed any more; hosts go on with what they have, and its key stays taken",
        None,
        One(of::<EnvironmentView>),
    )
    .scope("admin"),
    write(
        "post",
        "/api/v1/projects/{project}/environments/{environment}/restore",
        "restoreEnvironment",
        "Let an archived environment be changed again",
        None,
        One(of::<EnvironmentView>),
    )
    .scope("admin"),
    write(
        "post",
        "/api/v1/projects/{project}/environments/{environment}/signing-key/cancel",
        "cancelNextKey",
        "Take the next key back",
        None,
        One(of::<EnvironmentView>),
    )
    .scope("admin"),
    write(
        "post",
        "/api/v1/projects/{project}/environments/{environment}/clone",
        "cloneEnvironment",
        "Let all flags do what they do in another environment, as one change",
        Some(of::<clone::FromAll>),
        Members(&[("revision", of::<u64>), ("changed", of::<Vec<String>>), ("metadata", of::<bool>)]),
    ),
    write(
        "post",
        "/api/v1/projects/{project}/environments/{environment}/rollback",
        "rollBack",
        "Take flags and rules back to what they did at a revision",
        Some(of::<change::RollBack>),
        One(of::<RolledBack>),
    ),
    read(
        "/api/v1/projects/{project}/environments/{environment}/changes",
        "listChanges",
        "The log, the newest first",
        List(of::<Entry>),
    )
    .asks(members::<change::Which>),
    read(
        "/api/v1/projects/{project}/environments/{environment}/changes/export",
        "exportChanges",
        "The log as lines of JSON, the oldest first",
        Text("application/x-ndjson"),
    )
    .asks(members::<log::Part>),
    read(
        "/api/v1/projects/{project}/environments/{environment}/diff",
        "diffRevisions",
        "What differs between two revisions, flag by flag",
        One(of::<Diff>),
    )
    .asks(members::<log::Between>),
    read(
        "/api/v1/projects/{project}/environments/{environment}/export",
        "exportEnvironment",
        "The environment's flags as a flagd file",
        One(of::<Object>),
    )
    .asks(members::<transfer::Form>),
    write(
        "post",
        "/api/v1/projects/{project}/environments/{environment}/import",
        "importEnvironment",
        "Make flags what a flagd file says, as one change",
        Some(of::<Object>),
        One(of::<Imported>),
    ),
    read(
        "/api/v1/projects/{project}/environments/{environment}/flags",
        "listConfigurations",
        "What all flags do in the environment",
        List(of::<flag::ListedConfig>),
    )
    .asks(members::<flag::WhichConfigs>),
    read(
        "/api/v1/projects/{project}/environments/{environment}/flags/{flag}",
        "showConfiguration",
        "What a flag does in the environment",
        One(of::<flag::ConfigView<'static>>),
    ),
    write(
        "put",
        "/api/v1/projects/{project}/environments/{environment}/flags/{flag}",
        "replaceConfiguration",
        "Replace what a flag does in the environment; needs If-Match",
        Some(of::<Config>),
        One(of::<flag::ConfigView<'static>>),
    ),
    write(
        "patch",
        "/api/v1/projects/{project}/environments/{environment}/flags/{flag}",
        "changeConfiguration",
        "Change what a flag does in the environment: a JSON merge patch",
        Some(of::<Object>),
        One(of::<flag::ConfigView<'static>>),
    ),
    write(
        "post",
        "/api/v1/projects/{project}/environments/{environment}/flags/{flag}/clone",
        "cloneConfiguration",
        "Let a flag do what it does in another environment",
        Some(of::<clone::From>),
        Members(&[("revision", of::<u64>)]),
    ),
    read(
        "/api/v1/projects/{project}/environments/{environment}/schedules",
        "listSchedules",
        "The changes that are to happen at a time, or were",
        List(of::<Schedule>),
    )
    .asks(members::<schedule::Which>),
    write(
        "post",
        "/api/v1/projects/{project}/environments/{environment}/schedules",
        "createSchedule",
        "Schedule a change",
        Some(of::<NewSchedule>),
        One(of::<Schedule>),
    )
    .makes(),
    read(
        "/api/v1/projects/{project}/environments/{environment}/schedules/{schedule}",
        "showSchedule",
        "A scheduled change",
        One(of::<Schedule>),
    ),
    write(
        "post",
        "/api/v1/projects/{project}/environments/{environment}/schedules/{schedule}/cancel",
        "cancelSchedule",
        "Cancel a scheduled change",
        None,
        One(of::<Schedule>),
    ),
    read("/api/v1/projects/{project}/flags", "listFlags", "The flags of a project", List(of::<FlagView<'static>>))
        .asks(members::<flag::Which>),
    write(
        "post",
        "/api/v1/projects/{project}/flags",
        "createFlag",
        "Make a flag",
        Some(of::<flag::NewFlag>),
        One(of::<FlagView<'static>>),
    )
    .makes(),
    read("/api/v1/projects/{project}/flags/{flag}", "showFlag", "A flag", One(of::<FlagView<'static>>)),
    write(
        "put",
        "/api/v1/projects/{project}/flags/{flag}",
        "replaceFlag",
        "Replace what a flag is in all environments; needs If-Match",
        Some(of::<FlagBody>),
        One(of::<FlagView<'static>>),
    ),
    write(
        "patch",
        "/api/v1/projects/{project}/flags/{flag}",
        "changeFlag",
        "Change what a flag is in all environments: a JSON merge patch",
        Some(of::<Object>),
        One(of::<FlagView<'static>>),
    ),
    write(
        "post",
        "/api/v1/projects/{project}/flags/{flag}/archive",
        "archiveFlag",
        "Take a flag from all hosts; its key stays taken",
        None,
        One(of::<FlagView<'static>>),
    ),
    write(
        "post",
        "/api/v1/projects/{project}/flags/{flag}/restore",
        "restoreFlag",
        "Bring an archived flag back, configured as it was",
        None,
        One(of::<FlagView<'static>>),
    ),
    read(
        "/api/v1/tokens",
        "listTokens",
        "The tokens of what the token is for, of which nothing secret is known",
        List(of::<Token>),
    )
    .asks(members::<Page>)
    .scope("admin"),
    read("/api/v1/tokens/{token}", "showToken", "A token, of which nothing secret is known", One(of::<Token>))
        .scope("admin"),
    write(
        "post",
        "/api/v1/tokens",
        "createToken",
        "Make a token; the answer has it as `token`, this once",
        Some(of::<token::NewToken>),
        WithSecret(members::<Token>, "token"),
    )
    .makes()
    .scope("admin"),
    write("post", "/api/v1/tokens/{token}/revoke", "revokeToken", "End a token", None, One(of::<Token>)).scope("admin"),
    write(
        "post",
        "/api/v1/tokens/{token}/rotate",
        "rotateToken",
        "Make a token like another, which ends; the answer has it as `token`, this once",
        Some(of::<token::Rotate>),
        WithSecret(members::<Token>, "token"),
    )
    .makes()
    .scope("admin"),
    read(
        "/sync/v1/{project}/{environment}/snapshot",
        "snapshot",
        "What hosts get: a signed flagd definition",
        One(of::<Object>),
    )
    .scope("sync"),
    read(
        "/sync/v1/{project}/{environment}/stream",
        "stream",
        "The snapshot or what was missed since Last-Event-ID, and each change as it happens",
        Text("text/event-stream"),
    )
    .scope("sync"),
    read("/healthz", "live", "Whether the process is up", Text("text/plain")).scope(""),
    read("/readyz", "ready", "Whether the database is read and written", Text("text/plain")).scope(""),
    read(
        "/api/v1/projects/{project}/environments/{environment}/segments",
        "listSegments",
        "The segments of an environment",
        List(of::<SegmentView<'static>>),
    )
    .asks(members::<segment::Which>),
    write(
        "post",
        "/api/v1/projects/{project}/environments/{environment}/segments",
        "createSegment",
        "Make a segment",
        Some(of::<segment::NewSegment>),
        One(of::<SegmentView<'static>>),
    )
    .makes(),
    read(
        "/api/v1/projects/{project}/environments/{environment}/segments/{segment}",
        "showSegment",
        "A segment",
        One(of::<SegmentView<'static>>),
    ),
    write(
        "put",
        "/api/v1/projects/{project}/environments/{environment}/segments/{segment}",
        "replaceSegment",
        "Replace what a segment is; needs If-Match",
        Some(of::<SegmentBody>),
        One(of::<SegmentView<'static>>),
    ),
    write(
        "patch",
        "/api/v1/projects/{project}/environments/{environment}/segments/{segment}",
        "changeSegment",
        "Change what a segment is: a JSON merge patch",
        Some(of::<Object>),
        One(of::<SegmentView<'static>>),
    ),
    write(
        "post",
        "/api/v1/projects/{project}/environments/{environment}/segments/{segment}/archive",
        "archiveSegment",
        "Take a segment from all hosts; its key stays taken",
        None,
        One(of::<SegmentView<'static>>),
    ),
    write(
        "post",
        "/api/v1/projects/{project}/environments/{environment}/segments/{segment}/restore",
        "restoreSegment",
        "Bring an archived segment back",
        None,
        One(of::<SegmentView<'static>>),
    ),
    read(
        "/api/v1/projects/{project}/environments/{environment}/segments/{segment}/ids",
        "exportIds",
        "The ids of a list, in order, one a line",
        Text("text/plain"),
    ),
    write(
        "put",
        "/api/v1/projects/{project}/environments/{environment}/segments/{segment}/ids",
        "replaceIds",
        "Take these ids, one a line (text/plain, text/csv, application/x-ndjson; gzip)",
        None,
        One(of::<SegmentView<'static>>),
    ),
    write(
        "post",
        "/api/v1/projects/{project}/environments/{environment}/segments/{segment}/ids/add",
        "addIds",
        "Add these ids",
        None,
        One(of::<SegmentView<'static>>),
    ),
    write(
        "post",
        "/api/v1/projects/{project}/environments/{environment}/segments/{segment}/ids/remove",
        "removeIds",
        "Take these ids out",
        None,
        One(of::<SegmentView<'static>>),
    ),
    read(
        "/api/v1/projects/{project}/environments/{environment}/hosts",
        "listHosts",
        "What hosts have published, as they told this replica",
        List(of::<HostView>),
    )
    .asks(members::<host::Which>),
    Operation {
        status: "204",
        ..write(
            "post",
            "/sync/v1/{project}/{environment}/report",
            "report",
            "A host says what it has published",
            Some(of::<Report>),
            Nothing,
        )
        .scope("sync")
    },
    read(
        "/sync/v1/{project}/{environment}/parts/{part}",
        "part",
        "A part of an id list, by its hash",
        Text("application/octet-stream"),
    )
    .scope("sync"),
];
