//! `/api/v1/projects/PROJECT/environments/ENVIRONMENT/segments`

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use flags_sync::list::Merge;
use flags_sync::{List, Part};
use libflags::definition::ListFormat;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::place::{readable, writable};
use super::request::{Answer, Asked, Items, Write, page_limit};
use crate::app::App;
use crate::auth::Access;
use crate::ids::{self, Lines, Most, Sorted};
use crate::limit::Kind;
use crate::model::patched;
use crate::parse::parse_value;
use crate::problem::Problem;
use crate::resource::change::Author;
use crate::resource::environment::Environment;
use crate::resource::part::{self, NewList, PartWriter, Stored, Written};
use crate::resource::segment::{self, Segment, SegmentBody, SegmentKind};
use crate::resource::token::Scope;
use crate::store::{Store, StoreError, Transaction};

/// A list is written anew as one part when it has this many besides the first, or when they have a quarter of its bytes.
const DELTAS: usize = 16;

/// How often a batch is worked out anew because others changed the list meanwhile.
const TRIES: usize = 8;

/// What a segment is made from.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(crate) struct NewSegment {
    key: String,
    kind: SegmentKind,
    #[serde(flatten)]
    body: Map<String, Json>,
}

/// Which segments.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Which {
    /// Where the last page ended: its `next`.
    cursor: String,
    limit: Option<i64>,
    search: String,
    archived: bool,
}

type Place = (String, String);
/// Project, environment and segment.
pub(super) type SegmentPlace = (String, String, String);

pub(super) async fn list(
    State(app): State<Arc<App>>,
    access: Access,
    Path(place): Path<Place>,
    Asked(which): Asked<Which>,
) -> Result<Answer, Problem> {
    let limit = page_limit(which.limit)?;
    let segments = app.store.read(move |transaction| {
        let (_, environment) = readable(transaction, &access, &place.0, &place.1)?;
        let filter =
            segment::Filter { after: which.cursor, search: which.search, archived: which.archived, limit: limit + 1 };
        segment::list(transaction, &environment, &filter)
    });
    let Items { items, next } = Items::new(segments.await?, limit, |segment: &Segment| segment.key.clone());
    Answer::ok(&Items { items: items.iter().map(Segment::view).collect(), next })
}

pub(super) async fn create(
    State(app): State<Arc<App>>,
    Path(place): Path<Place>,
    write: Write,
) -> Result<Answer, Problem> {
    let new = write.json::<NewSegment>()?;
    let body: SegmentBody = parse_value(Json::Object(new.body))?;
    write
        .run(&app, move |transaction, write| {
            let (_, environment) = writable(transaction, &write.access, &place.0, &place.1)?;
            let made = segment::create(transaction, &environment, &new.key, new.kind, body, &write.author)?;
            answer(StatusCode::CREATED, &made)
        })
        .await
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    access: Access,
    Path(place): Path<SegmentPlace>,
) -> Result<Answer, Problem> {
    answer(StatusCode::OK, &seen(&app, access, place).await?.1)
}

pub(super) async fn put(
    State(app): State<Arc<App>>,
    Path(place): Path<SegmentPlace>,
    write: Write,
) -> Result<Answer, Problem> {
    let body: SegmentBody = write.json()?;
    change(&app, place, write, move |transaction, environment, old, write| {
        write.require_revision(old.revision)?;
        segment::update(transaction, environment, old, body, &write.author)
    })
    .await
}

pub(super) async fn patch(
    State(app): State<Arc<App>>,
    Path(place): Path<SegmentPlace>,
    write: Write,
) -> Result<Answer, Problem> {
    let patch: Json = write.json()?;
    change(&app, place, write, move |transaction, environment, old, write| {
        write.check_revision(old.revision)?;
        segment::update(transaction, environment, old, patched(&old.body, patch)?, &write.author)
    })
    .await
}

pub(super) async fn archive(
    State(app): State<Arc<App>>,
    Path(place): Path<SegmentPlace>,
    write: Write,
) -> Result<Answer, Problem> {
    come_or_go(&app, place, write, segment::archive).await
}

pub(super) async fn restore(
    State(app): State<Arc<App>>,
    Path(place): Path<SegmentPlace>,
    write: Write,
) -> Result<Answer, Problem> {
    come_or_go(&app, place, write, segment::restore).await
}

type ComeOrGo = fn(&mut dyn Transaction, &Environment, &Segment, &Author) -> Result<Segment, Problem>;

async fn come_or_go(app: &App, place: SegmentPlace, write: Write, how: ComeOrGo) -> Result<Answer, Problem> {
    change(app, place, write, move |transaction, environment, old, write| {
        write.check_revision(old.revision)?;
        how(transaction, environment, old, &write.author)
    })
    .await
}

/// Does `how` with a segment, in one transaction.
async fn change<H>(app: &App, place: SegmentPlace, write: Write, how: H) -> Result<Answer, Problem>
where
    H: FnOnce(&mut dyn Transaction, &Environment, &Segment, &Write) -> Result<Segment, Problem> + Send + 'static,
{
    write
        .run(app, move |transaction, write| {
            let (_, environment) = writable(transaction, &write.access, &place.0, &place.1)?;
            let old = segment::find(transaction, &environment, &place.2)?;
            answer(StatusCode::OK, &how(transaction, &environment, &old, write)?)
        })
        .await
}

fn answer(status: StatusCode, segment: &Segment) -> Result<Answer, Problem> {
    Ok(Answer::new(status, &segment.view())?.with_revision(segment.revision))
}

pub(super) async fn seen(app: &App, access: Access, place: SegmentPlace) -> Result<(Environment, Segment), Problem> {
    let work = move |transaction: &mut dyn Transaction| {
        let (_, environment) = readable(transaction, &access, &place.0, &place.1)?;
        let segment = segment::find(transaction, &environment, &place.2)?;
        Ok::<_, Problem>((environment, segment))
    };
    app.store.read(work).await
}

/// What a body does to a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Batch {
    Replace,
    Add,
    Remove,
}

pub(super) async fn put_ids(
    app: State<Arc<App>>,
    place: Path<SegmentPlace>,
    request: Request,
) -> Result<Answer, Problem> {
    upload(app.0, place.0, request, Batch::Replace).await
}

pub(super) async fn add_ids(
    app: State<Arc<App>>,
    place: Path<SegmentPlace>,
    request: Request,
) -> Result<Answer, Problem> {
    upload(app.0, place.0, request, Batch::Add).await
}

pub(super) async fn remove_ids(
    app: State<Arc<App>>,
    place: Path<SegmentPlace>,
    request: Request,
) -> Result<Answer, Problem> {
    upload(app.0, place.0, request, Batch::Remove).await
}

async fn upload(app: Arc<App>, place: SegmentPlace, request: Request, batch: Batch) -> Result<Answer, Problem> {
    let (mut parts, body) = request.into_parts();
    let write = Write::without_body(&mut parts, &app).await?;
    let (format, packed) = encoding(&parts.headers)?;
    // Before anything is read: who may not write, or comes too late, hears so at once.
    let check = move |write: &Write, segment: &Segment| match batch {
        Batch::Replace => write.require_revision(segment.revision),
        Batch::Add | Batch::Remove => write.check_revision(segment.revision),
    };
    let (environment, segment) = seen(&app, write.access.clone(), place.clone()).await?;
    write.access.may_at(Scope::Write, &environment)?;
    environment.must_be_open()?;
    must_be_list(&segment)?;
    check(&write, &segment)?;
    let _place = app.limits.place(Kind::Upload, write.access.token_id())?;
    let limits = &app.config.limits;
    let most = Most { bytes: limits.upload_bytes, ids: limits.segment_ids };
    let mut sorted = ids::read(body, format, packed, most).await?;
    for _ in 0..TRIES {
        let (_, segment) = seen(&app, write.access.clone(), place.clone()).await?;
        check(&write, &segment)?;
        let (store, is_dry, old) = (app.store.clone(), write.is_dry_run(), segment.clone());
        let worked_out = tokio::task::spawn_blocking(move || {
            let worked_out = work_out(&store, &old, &mut sorted, batch, is_dry);
            (worked_out, sorted)
        });
        let (worked_out, again) = worked_out.await.map_err(|_| StoreError::Broken("an upload panicked".to_owned()))?;
        sorted = again;
        let new = worked_out.map_err(failed)?;
        if new.list.ids > most.ids as u64 {
            return Err(Problem::invalid("", format!("the list would have more than {} ids", most.ids)));
        }
        // Had until it is known whether the list is made of it.
        let part = new.part.clone();
        let meanwhile = Arc::new(AtomicBool::new(false));
        let (told, place) = (Arc::clone(&meanwhile), place.clone());
        let outcome = write.clone().run(&app, move |transaction, write| {
            let (_, environment) = writable(transaction, &write.access, &place.0, &place.1)?;
            let now = segment::find(transaction, &environment, &place.2)?;
            check(write, &now)?;
            if now.list != segment.list {
                // ORDERING: Relaxed; the task that reads it has waited for this one.
                told.store(true, Ordering::Relaxed);
                return Err(Problem::conflict("others change the list all the time: try again"));
            }
            let action = match batch {
                Batch::Replace => "segment.upload",
                Batch::Add => "segment.add",
                Batch::Remove => "segment.remove",
            };
            answer(StatusCode::OK, &segment::set_list(transaction, &environment, &now, new, action, &write.author)?)
        });
        let outcome = outcome.await;
        drop(part);
        if !meanwhile.load(Ordering::Relaxed) {
            return outcome;
        }
    }
    Err(Problem::conflict("others change the list all the time: try again"))
}

pub(super) fn must_be_list(segment: &Segment) -> Result<(), Problem> {
    match segment.kind {
        SegmentKind::List => Ok(()),
        SegmentKind::Rule => Err(Problem::conflict(format!("the segment {:?} is a rule, and has no ids", segment.key))),
    }
}

/// How a body is written, and whether it is packed.
fn encoding(headers: &HeaderMap) -> Result<(ListFormat, bool), Problem> {
    let refuse = |detail: String| Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail);
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = text(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let format = match kind.as_str() {
        "" | "text/plain" | "application/octet-stream" => ListFormat::Text,
        "text/csv" => ListFormat::Csv,
        "application/x-ndjson" | "application/jsonl" | "application/json-lines" => ListFormat::JsonLines,
        other => {
            return Err(refuse(format!("ids come as text/plain, text/csv or application/x-ndjson, not as {other:?}")));
        }
    };
    match text(header::CONTENT_ENCODING).trim() {
        "" | "identity" => Ok((format, false)),
        "gzip" => Ok((format, true)),
        other => Err(refuse(format!("a body is packed with gzip, or not at all, not with {other:?}"))),
    }
}

/// The list that the batch makes of the old one. What is new of it is stored, but nothing refers to that yet.
fn work_out(store: &Store, old: &Segment, sorted: &mut Sorted, batch: Batch, is_dry: bool) -> io::Result<NewList> {
    let broken = Stored::within;
    let removes = match batch {
        Batch::Replace => return part::write_list(store, &mut sorted.merge()?, is_dry),
        Batch::Add => false,
        Batch::Remove => true,
    };
    let mut writer = PartWriter::begin(store, is_dry);
    let mut batch_ids = sorted.merge()?;
    // Only what makes a difference: ids that are to come and not there, or to go and there.
    let mut there = Merge::new(part::texts(store, old.id, &old.list).map_err(broken)?)?;
    let mut known = there.next_id()?.map(<[u8]>::to_vec);
    while let Some(id) = batch_ids.next_id()? {
        while known.as_deref().is_some_and(|known| known < id) {
            known = there.next_id()?.map(<[u8]>::to_vec);
        }
        if (known.as_deref() == Some(id)) == removes {
            writer.push(id).map_err(broken)?;
        }
    }
    let Some(Written { stored, part }) = writer.finish(removes).map_err(broken)? else {
        return Ok(NewList { list: old.list.clone(), part: None });
    };
    let ids = if removes { old.list.ids.saturating_sub(part.ids) } else { old.list.ids + part.ids };
    let deltas: &[Part] = old.list.parts.get(1..).unwrap_or_default();
    let base_bytes = old.list.parts.first().map_or(0, |base| base.bytes);
    let delta_bytes = part.bytes + deltas.iter().map(|delta| delta.bytes).sum::<u64>();
    if deltas.len() < DELTAS && delta_bytes <= base_bytes / 4 {
        let mut parts = old.list.parts.clone();
        parts.push(part);
        return Ok(NewList { list: List { ids, parts }, part: stored });
    }
    let stored = part::texts(store, old.id, &old.list).map_err(broken)?.into_iter();
    let stored = stored.map(|(text, removes)| (Box::new(text) as Lines, removes));
    let batch_lines = sorted.lines()?.into_iter().map(|lines| (lines, removes));
    let mut all = Merge::new(stored.chain(batch_lines))?;
    part::write_list(store, &mut all, is_dry)
}

fn failed(error: io::Error) -> Problem {
    match error.downcast::<Stored>() {
        Ok(Stored(error)) => error.into(),
        // A part that can't be read any more, or a temporary file.
        Err(error) => StoreError::Unavailable(error.to_string()).into(),
    }
}
