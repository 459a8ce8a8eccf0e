//! The questions of `dromia init`: which model answers, and which of several a server has. At most two, and Enter takes the
//! first answer of each. It asks nothing where no person can answer.

use std::io::{BufRead as _, Write as _};

use anyhow::Context as _;

use super::detect::{self, DetectedModel};
use crate::system::ExitError;

/// Takes one of the models that were found; asks at a terminal. Nothing is the scripted model.
pub(super) fn choose_model(
    found: &[DetectedModel],
    silent: bool,
    can_ask: bool,
) -> anyhow::Result<Option<DetectedModel>> {
    if silent {
        return Ok(detect::first_choice(found).cloned());
    }
    if !can_ask && found.is_empty() {
        return Ok(None);
    }
    if !can_ask {
        return Err(ExitError::usage_error(
            "init needs an answer, but there is no terminal to ask on; add --defaults or --no-input",
        ));
    }
    let typed = DetectedModel::with_typed_keys();
    let offered: Vec<_> = found.iter().chain(&typed).collect();
    let scripted = "the built-in scripted model, which is not an LLM";
    // Without anything at hand, Enter needs neither a key nor a server.
    let first = found.is_empty().then_some(scripted);
    let titles = offered.iter().map(|found| found.title.as_str());
    let last = (!found.is_empty()).then_some(scripted);
    let titles: Vec<_> = first.into_iter().chain(titles).chain(last).collect();
    let chosen = ask_choice("Which model should answer?", &titles)?;
    let index = if found.is_empty() { chosen.checked_sub(1) } else { Some(chosen) };
    let Some(mut chosen) = index.and_then(|index| offered.get(index).copied()).cloned() else {
        return Ok(None);
    };
    if chosen.models.len() > 1 {
        let ids: Vec<_> = chosen.models.iter().map(String::as_str).collect();
        let index = ask_choice("Which of its models?", &ids)?;
        chosen.models.swap(0, index);
    }
    Ok(Some(chosen))
}

/// Asks for one of several; an empty answer takes the first.
fn ask_choice(question: &str, choices: &[&str]) -> anyhow::Result<usize> {
    anstream::println!("{question}");
    for (index, choice) in choices.iter().enumerate() {
        anstream::println!("  {}. {choice}", index + 1);
    }
    loop {
        anstream::print!("[1-{}, default 1] ", choices.len());
        std::io::stdout().flush().context("failed to show the question")?;
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer).context("failed to read the answer")?;
        match parse_choice(&answer, choices.len()) {
            Some(index) => return Ok(index),
            None if read == 0 => {
                return Err(ExitError::usage_error("you chose nothing, so init created nothing"));
            }
            None => {}
        }
    }
}

/// Reads an answer: a number from 1, or nothing for the first. The end of the input is no answer.
fn parse_choice(answer: &str, choices: usize) -> Option<usize> {
    match answer.trim() {
        "" if answer.ends_with('\n') => Some(0),
        number => number.parse::<usize>().ok()?.checked_sub(1).filter(|index| *index < choices),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_number_of_the_list_or_nothing() {
        let table =
            [("\n", Some(0)), ("2\n", Some(1)), ("3\n", None), ("0\n", None), ("x\n", None), ("", None)];
        for (answer, index) in table {
            assert_eq!(parse_choice(answer, 2), index, "{answer:?}");
        }
    }

    #[test]
    fn init_asks_no_question_when_no_model_is_found() {
        for (silent, can_ask) in [(false, false), (true, true)] {
            assert_eq!(choose_model(&[], silent, can_ask).expect("no question"), None);
        }
    }
}
