//! `docs`: the pages for people who use or operate the program, out of the program itself. No server and no network is asked.
//!
//! The pages of errors and of the configuration are made from their tables, as the files are. What is for contributors is not
//! here.

use std::borrow::Cow;

use dromia_api::ListPage;
use dromia_cli::{CommandOutput, Error, Outcome, nearest_word};
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::reference::reference_page;

/// The names of the pages with their texts; one without a text is made from a table.
macro_rules! embedded_pages {
    ($($name:literal)*) => {
        [$(($name, include_str!(concat!("../../../../docs/", $name, ".md")))),*]
    };
}

const PAGES: [(&str, &str); 26] = embedded_pages! {
    "first-agent" "output" "chat" "compatible-clients" "open-webui" "workspaces" "external-tools" "webhooks" "file-channel" "long-conversations" "approvals" "identity" "minds" "workers" "budgets" "operate"
    "keep-running" "reverse-proxy" "sandbox" "policy" "capabilities" "vault" "audit" "retention" "backup" "glossary"
};

type MakePage = fn() -> String;

/// The pages that are made from tables.
const MADE: [(&str, MakePage); 2] =
    [("configuration", reference_page), ("errors", dromia_cli::explain::errors_page)];

/// A page of the documentation.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DocsPage {
    /// Its name, as `dromia docs` takes it.
    name: &'static str,
    /// What it is about.
    title: String,
    /// All of it in Markdown, where one page was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'static, str>>,
}

/// The names of all pages.
pub(super) fn page_names() -> impl Iterator<Item = &'static str> + Clone {
    PAGES.iter().map(|(name, _)| *name).chain(MADE.iter().map(|(name, _)| *name))
}

fn read_page(name: &'static str) -> DocsPage {
    let text = MADE.iter().find(|page| page.0 == name).map(|page| Cow::Owned(page.1()));
    let text = text.or_else(|| Some(Cow::Borrowed(PAGES.iter().find(|page| page.0 == name)?.1)));
    let title = text.as_deref().and_then(|text| text.lines().next()).unwrap_or_default();
    DocsPage { name, title: title.trim_start_matches("# ").to_owned(), text }
}

/// Prints a page, or lists them all. A page may be named as its file is, and as a link names it.
pub(super) fn print_docs(page: Option<&str>, output: &mut CommandOutput<'_>) -> Outcome {
    let wanted = page.map(|typed| typed.trim().to_ascii_lowercase().replace("docs/", "").replace(".md", ""));
    let wanted = wanted.as_deref().and_then(|wanted| wanted.split('#').next());
    let names = page_names().filter(|name| wanted.is_none_or(|wanted| wanted == *name));
    let mut items: Vec<_> = names.map(read_page).collect();
    if let (Some(wanted), true) = (wanted, items.is_empty()) {
        let near = nearest_word(wanted, page_names()).map(|near| format!("did you mean `{near}`? "));
        let near = near.unwrap_or_default();
        return Err(Error::Usage(format!("there is no page {wanted:?}; {near}`dromia docs` lists them")));
    }
    if wanted.is_none() {
        for page in &mut items {
            page.text = None;
        }
    }
    if output.is_json() {
        return output.print_document(&ListPage { items, next: None });
    }
    if let Some(text) = items.first().and_then(|page| page.text.as_deref()) {
        return output.print_markdown(text);
    }
    let rows = items.into_iter().map(|page| vec![page.name.to_owned(), page.title]);
    output.print_table(&["page", "title"], rows.collect())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The pages of a text that link to a file beside it.
    fn linked(text: &str) -> impl Iterator<Item = &str> {
        text.split("](").skip(1).filter_map(|link| link.split(')').next()?.strip_suffix(".md"))
    }

    /// Which page for people has no name here.
    fn missing_pages(contents: &str) -> Vec<&str> {
        let for_people = contents.split("## Contribute").next().unwrap_or_default();
        linked(for_people)
            .filter(|name| !name.contains('/') && !page_names().any(|known| known == *name))
            .collect()
    }

    #[test]
    fn every_page_for_people_is_in_the_program() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
        let contents = fs::read_to_string(docs.join("README.md")).expect("the contents");
        assert!(linked(&contents).count() > 15, "{contents}");
        assert_eq!(missing_pages(&contents), Vec::<&str>::new());
        for name in page_names() {
            let page = read_page(name);
            assert!(page.text.is_some_and(|text| text.starts_with("# ")) && !page.title.is_empty(), "{name}");
        }
        assert_eq!(
            missing_pages("[New](new.md)\n## Contribute\n[Other](other.md)"),
            ["new"],
            "the check sees it"
        );
    }
}
