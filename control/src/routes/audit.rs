//! What changes no environment is in no environment's log: projects and tokens. The program's own log says who did what to them.

use super::request::{Answer, Write};
use crate::problem::Problem;

/// What the lines are called. They are written whatever the log's level is.
pub(crate) const TARGET: &str = "audit";

/// A change that is told once it has happened.
#[derive(Debug)]
pub(super) struct Audit {
    action: &'static str,
    actor: String,
    comment: String,
    /// The key or id in the path, if there is one.
    of: String,
    is_dry_run: bool,
}

impl Audit {
    pub(super) fn begin(action: &'static str, of: &str, write: &Write) -> Self {
        Self {
            action,
            actor: write.author.actor.clone(),
            comment: write.author.comment.clone(),
            of: of.to_owned(),
            is_dry_run: write.is_dry_run(),
        }
    }

    /// Tells of it, with what the answer shows (which is no secret), unless nothing has happened.
    pub(super) fn end(self, answer: Result<Answer, Problem>) -> Result<Answer, Problem> {
        let Self { action, actor, comment, of, is_dry_run } = self;
        if let Ok(answer) = &answer
            && !is_dry_run
            && answer.is_of_a_change()
        {
            tracing::info!(target: TARGET, action, actor, comment, of, now = %answer.body(), "changed");
        }
        answer
    }
}
