//! Gherkin, as far as feature files for evaluators use it.
//!
//! A `Scenario Outline` becomes one scenario for each row of its `Examples`; a scenario carries the tags of its feature and
//! its examples; the steps of the `Background` come first.

use anyhow::{Context as _, bail};

/// One scenario to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Feature, scenario, and for an outline the row of its examples.
    pub name: String,
    /// All tags that hold for it, each with its `@`.
    pub tags: Vec<String>,
    /// What it does and checks, in order.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The text after the keyword.
    pub text: String,
    /// The table under it, its head first; empty where it has none.
    pub table: Vec<Vec<String>>,
}

/// The scenarios of a feature file.
///
/// # Errors
/// A line that is no Gherkin, with its number.
pub fn parse(feature: &str) -> anyhow::Result<Vec<Scenario>> {
    let mut reader = Reader::default();
    for (index, line) in feature.lines().enumerate() {
        reader.line(line.trim()).with_context(|| format!("line {}: {line}", index + 1))?;
    }
    reader.close_scenario();
    Ok(reader.scenarios)
}

#[derive(Default)]
struct Reader {
    feature: String,
    feature_tags: Vec<String>,
    background: Vec<Step>,
    /// Tags read, waiting for what they belong to.
    pending_tags: Vec<String>,
    place: Place,
    outline: Option<Outline>,
    scenarios: Vec<Scenario>,
}

/// What the lines being read belong to.
#[derive(Default, PartialEq)]
enum Place {
    #[default]
    Start,
    Feature,
    Background,
    Scenario,
    Examples,
}

/// A scenario as written: without examples, or with a row of them for each scenario to run.
#[derive(Default)]
struct Outline {
    name: String,
    tags: Vec<String>,
    steps: Vec<Step>,
    examples: Vec<Examples>,
}

#[derive(Default)]
struct Examples {
    tags: Vec<String>,
    table: Vec<Vec<String>>,
}

const STEP_KEYWORDS: [&str; 5] = ["Given ", "When ", "Then ", "And ", "But "];

impl Reader {
    fn line(&mut self, line: &str) -> anyhow::Result<()> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        if line.starts_with('@') {
            self.pending_tags.extend(line.split_whitespace().map(str::to_owned));
        } else if let Some(name) = line.strip_prefix("Feature:") {
            self.feature = name.trim().to_owned();
            self.feature_tags = std::mem::take(&mut self.pending_tags);
            self.place = Place::Feature;
        } else if line.starts_with("Background:") {
            self.place = Place::Background;
        } else if let Some(name) = line.strip_prefix("Scenario Outline:").or_else(|| line.strip_prefix("Scenario:")) {
            self.close_scenario();
            let tags = std::mem::take(&mut self.pending_tags);
            self.outline = Some(Outline { name: name.trim().to_owned(), tags, ..Outline::default() });
            self.place = Place::Scenario;
        } else if line.starts_with("Examples:") {
            let tags = std::mem::take(&mut self.pending_tags);
            self.outline()?.examples.push(Examples { tags, table: Vec::new() });
            self.place = Place::Examples;
        } else if line.starts_with('|') {
            let row = cells(line)?;
            self.table()?.push(row);
        } else if let Some(text) = STEP_KEYWORDS.iter().find_map(|keyword| line.strip_prefix(keyword)) {
            let step = Step { text: text.trim().to_owned(), table: Vec::new() };
            self.steps()?.push(step);
        } else if self.place != Place::Feature {
            bail!("neither a keyword nor a table");
        }
        Ok(())
    }

    fn outline(&mut self) -> anyhow::Result<&mut Outline> {
        self.outline.as_mut().context("there is no scenario yet")
    }

    fn steps(&mut self) -> anyhow::Result<&mut Vec<Step>> {
        match self.place {
            Place::Background => Ok(&mut self.background),
            Place::Scenario => Ok(&mut self.outline()?.steps),
            _ => bail!("a step outside of a scenario"),
        }
    }

    fn table(&mut self) -> anyhow::Result<&mut Vec<Vec<String>>> {
        if self.place == Place::Examples {
            return Ok(&mut self.outline()?.examples.last_mut().context("no examples")?.table);
        }
        Ok(&mut self.steps()?.last_mut().context("a table without a step")?.table)
    }

    fn close_scenario(&mut self) {
        let Some(outline) = self.outline.take() else { return };
        let name = format!("{}: {}", self.feature, outline.name);
        let tags = [&self.feature_tags[..], &outline.tags].concat();
        let steps = [&self.background[..], &outline.steps].concat();
        if outline.examples.is_empty() {
            self.scenarios.push(Scenario { name, tags, steps });
            return;
        }
        for examples in outline.examples {
            let Some((head, rows)) = examples.table.split_first() else { continue };
            for row in rows {
                let fill = |text: &str| {
                    head.iter()
                        .zip(row)
                        .fold(text.to_owned(), |text, (name, cell)| text.replace(&format!("<{name}>"), cell))
                };
                let fill_step = |step: &Step| Step {
                    text: fill(&step.text),
                    table: step.table.iter().map(|row| row.iter().map(|cell| fill(cell)).collect()).collect(),
                };
                self.scenarios.push(Scenario {
                    name: format!("{name} [{}]", row.join(", ")),
                    tags: [&tags[..], &examples.tags].concat(),
                    steps: steps.iter().map(fill_step).collect(),
                });
            }
        }
    }
}

/// The cells of a table's row. `\|`, `\n` and `\\` are escapes of the table; other backslashes stay.
fn cells(row: &str) -> anyhow::Result<Vec<String>> {
    let inside = row.strip_prefix('|').and_then(|row| row.strip_suffix('|')).context("a row ends with |")?;
    let mut cells = vec![String::new()];
    let mut characters = inside.chars();
    while let Some(character) = characters.next() {
        let cell = cells.last_mut().context("there is always a cell")?;
        match character {
            '|' => cells.push(String::new()),
            '\\' => match characters.next() {
                Some('n') => cell.push('\n'),
                Some(escaped @ ('|' | '\\')) => cell.push(escaped),
                other => {
                    cell.push('\\');
                    cell.extend(other);
                }
            },
            _ => cell.push(character),
        }
    }
    Ok(cells.iter().map(|cell| cell.trim_matches([' ', '\t']).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outline_becomes_a_scenario_a_row() {
        let scenarios = parse(
            r#"
            @all
            Feature: Fruit

              Some words.

              Background:
                Given a basket

              @slow @red
              Scenario Outline: Eat
                # a remark
                When <who> eats "<what>"
                  | part   |
                  | <part> |

                Examples: first
                  | who | what     | part |
                  | Ann | a \| b\" | skin |

                @late
                Examples: second
                  | who | what | part |
                  | Bob |      | core |
                  | Cid | kiwi |      |

              Scenario: Rest
                Then nothing happens
            "#,
        )
        .unwrap();
        let step = |text: &str, cells: &[&str]| Step {
            text: text.to_owned(),
            table: cells.iter().map(|cell| vec![(*cell).to_owned()]).collect(),
        };
        assert_eq!(scenarios.len(), 4);
        assert_eq!(scenarios[0].tags, ["@all", "@slow", "@red"]);
        assert_eq!(scenarios[0].steps, [step("a basket", &[]), step(r#"Ann eats "a | b\"""#, &["part", "skin"])]);
        assert_eq!(scenarios[1].tags, ["@all", "@slow", "@red", "@late"]);
        assert_eq!(scenarios[1].steps[1], step(r#"Bob eats """#, &["part", "core"]));
        assert_eq!(scenarios[2].name, "Fruit: Eat [Cid, kiwi, ]");
        assert_eq!(scenarios[3].tags, ["@all"]);
        assert_eq!(scenarios[3].steps, [step("a basket", &[]), step("nothing happens", &[])]);
    }

    #[test]
    fn what_is_no_gherkin_is_refused_with_its_line() {
        for feature in ["Scenario: x\nfoo", "Scenario: x\n| a", "\n| a |", "Examples:\nGiven x"] {
            let error = parse(feature).unwrap_err();
            assert!(error.to_string().starts_with("line "), "{feature:?} gave {error}");
        }
    }
}
