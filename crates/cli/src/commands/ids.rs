//! Which id is meant by what was typed. A whole id is taken at its word and costs no request.
//!
//! A part that fits several ids names none of them: they are listed, and the command does nothing.

use dromia_api::ListPage;
use dromia_api::id::IdMatches;
use dromia_api::list::LIMIT_MAX;
use serde::Deserialize;

use super::Cli;
use crate::args::{IdReference, ListedId, NEWEST};
use crate::client::percent_encode;
use crate::error::{Error, Outcome};
use crate::exit::CommandExit;
use crate::output::{CommandOutput, draw_table};

/// What a row of a listing is known by.
#[derive(Debug, Deserialize)]
struct ListedRow {
    id: String,
    /// What a run is for.
    kind: Option<String>,
    /// Where a session takes place.
    platform: Option<String>,
}

impl ListedRow {
    /// Returns whether the server made it to summarize a session: a person does not mean it by "the newest".
    fn is_compaction(&self) -> bool {
        [&self.kind, &self.platform].into_iter().flatten().any(|word| word == COMPACTION)
    }
}

/// The kind of a run, and the platform of a session, that summarizes another session.
const COMPACTION: &str = "compaction";

/// How many compactions may be newer than the row that is meant.
const COMPACTIONS_MAX: usize = 16;

/// How many pages of a listing are read that begins with the oldest.
const PAGES_MAX: usize = 64;

impl Cli<'_> {
    /// Finds the id that is meant.
    pub(super) async fn resolve_id<I: ListedId>(
        &self,
        typed: IdReference<I>,
        output: &mut CommandOutput<'_>,
    ) -> Outcome<I> {
        match typed {
            IdReference::Whole(id) => Ok(id),
            IdReference::Newest(back) => self.newest_id(back).await,
            IdReference::Part(part) => {
                let path = format!("/v1/ids/{part}?kind={}", I::KIND.as_str());
                let found: IdMatches = self.client.get(&path).await?;
                match found.matches.as_slice() {
                    [only] if !found.more => parse_listed(&only.id),
                    _ => Err(refuse_ambiguous(&found, &part.to_string(), output)?),
                }
            }
        }
    }

    /// The same for an option that may be absent.
    pub(super) async fn resolve_option<I: ListedId>(
        &self,
        typed: Option<IdReference<I>>,
        output: &mut CommandOutput<'_>,
    ) -> Outcome<Option<I>> {
        match typed {
            Some(typed) => self.resolve_id(typed, output).await.map(Some),
            None => Ok(None),
        }
    }

    /// The same where the newest is meant if nothing was typed.
    pub(super) async fn resolve_or_newest<I: ListedId>(
        &self,
        typed: Option<IdReference<I>>,
        output: &mut CommandOutput<'_>,
    ) -> Outcome<I> {
        self.resolve_id(typed.unwrap_or(IdReference::Newest(0)), output).await
    }

    /// Finds the newest id of a noun, or the one so many before it: of the selected agent, if one is selected.
    async fn newest_id<I: ListedId>(&self, back: u32) -> Outcome<I> {
        let back = back as usize;
        let agent = self.selected_agent().filter(|_| I::IS_OF_AN_AGENT);
        let rows = if I::IS_NEWEST_FIRST {
            let filter = agent.as_ref().map(|agent| format!("&agent={}", percent_encode(agent)));
            let limit = (back + 1 + COMPACTIONS_MAX).min(LIMIT_MAX as usize);
            let path = format!("{}limit={limit}{}", I::LISTING, filter.unwrap_or_default());
            let mut rows = self.client.get::<ListPage<ListedRow>>(&path).await?.items;
            rows.retain(|row| !row.is_compaction());
            rows
        } else {
            self.list_backwards(I::LISTING).await?
        };
        let of_agent = agent.map(|agent| format!(" of the agent {agent}")).unwrap_or_default();
        let message = match rows.get(back) {
            Some(row) => return parse_listed(&row.id),
            None if rows.is_empty() => format!("{}{of_agent}", I::NONE),
            None => {
                format!("{NEWEST}~{back} counts back beyond the first of the {}{of_agent}", I::KIND.plural())
            }
        };
        Err(Error::Local { exit: CommandExit::Failed, message })
    }

    /// Reads a listing that begins with the oldest, and turns it round.
    async fn list_backwards(&self, path: &str) -> Outcome<Vec<ListedRow>> {
        let (mut rows, mut after) = (Vec::new(), String::new());
        for _ in 0..PAGES_MAX {
            let limit = dromia_api::list::LIMIT_MAX;
            let page: ListPage<ListedRow> = self.client.get(&format!("{path}limit={limit}{after}")).await?;
            rows.extend(page.items);
            let Some(next) = page.next else {
                rows.reverse();
                return Ok(rows);
            };
            after = format!("&after={}", percent_encode(&next));
        }
        Err(Error::Usage("there are too many to find the newest; name one by its id".to_owned()))
    }
}

/// Reads an id that the server wrote.
fn parse_listed<I: ListedId>(text: &str) -> Outcome<I> {
    text.parse().map_err(|error: I::Err| Error::Broken(error.to_string()))
}

/// How many characters of what an id names are shown beside it: a row is a line of 80 columns.
const CHARS_SHOWN: usize = 28;

/// Lists the ids that a part fits, and says that it names none.
fn refuse_ambiguous(found: &IdMatches, part: &str, output: &mut CommandOutput<'_>) -> Outcome<Error> {
    let style = output.row_style();
    let rows = found.matches.iter().map(|one| {
        let words: String = one.text.chars().take(CHARS_SHOWN).collect();
        vec![one.id.clone(), style.format_time(one.at), words]
    });
    let rows = rows.collect();
    output.print_notice(&draw_table(None, &[found.kind.as_str(), "when", "what"], rows))?;
    let more = if found.more { "more than " } else { "" };
    let (count, nouns) = (found.matches.len(), found.kind.plural());
    Ok(Error::Usage(format!("{part:?} begins or ends the ids of {more}{count} {nouns}; type more digits")))
}
