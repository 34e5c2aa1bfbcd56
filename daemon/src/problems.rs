//! Problems of what was compiled in parts.

use libflags::definition::Problem;

use crate::input::{Content, Input};
use crate::source::Patch;

/// Lines and columns tell where to look in a file. What comes from a control plane is nowhere a file, so a flag's name and a pointer say it all.
pub(crate) fn settle_place(problem: &mut Problem, inputs: &[Input]) {
    let is_of = |input: &&Input| input.path.display().to_string() == problem.file;
    if inputs.iter().rev().find(is_of).is_some_and(|input| matches!(input.content, Content::Control(_))) {
        (problem.line, problem.column) = (1, 1);
    }
}

/// The problems after a patch: `before`, without those of the flags that it touches, and those that it brought; of one document in the
/// order of the flags' keys, as in the whole of it.
pub(crate) fn after(before: Vec<Problem>, brought: Vec<Problem>, patch: &Patch) -> Vec<Problem> {
    let touched = |key: &String| patch.change.flags.contains_key(key) || patch.change.removed.contains(key);
    let is_gone = |problem: &Problem| problem.file == patch.flags.name() && problem.flag.as_ref().is_some_and(touched);
    let mut problems: Vec<Problem> = before.into_iter().filter(|problem| !is_gone(problem)).collect();
    for problem in brought {
        let is_before = |known: &Problem| known.file == problem.file && known.flag <= problem.flag;
        let behind = problems.iter().rposition(is_before).map(|at| at + 1);
        let at = behind.or_else(|| problems.iter().position(|known| known.file == problem.file));
        problems.insert(at.unwrap_or(problems.len()), problem);
    }
    problems
}
