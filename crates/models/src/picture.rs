//! Pictures in the results of tools.
//!
//! Where a format has room for them they stand inside the result. Where it has none they follow the results of their
//! unit as a message of the user's side, and a line before them says that no user sent them. A result is told in the
//! same bytes as ever where it has no picture.

use dromia_contracts::content::{Media, Part, ToolResult};

/// A picture as an address that holds it.
pub(crate) fn data_url(media: Media, data: &str) -> String {
    format!("data:{};base64,{data}", media.as_str())
}

/// Tells whether a result has a picture.
pub(crate) fn is_shown(result: &ToolResult) -> bool {
    result.parts.iter().any(Part::is_image)
}

/// The pictures of a result, in their order.
pub(crate) fn of(result: &ToolResult) -> impl Iterator<Item = (Media, &str)> {
    result.parts.iter().filter_map(|part| match part {
        Part::Text { .. } => None,
        Part::Image { media, data, .. } => Some((*media, data.as_str())),
    })
}

/// The line that stands before pictures that follow their result. It has at most 128 bytes, which is what
/// [`crate::tokens`] counts for it.
pub(crate) fn caption(result: &ToolResult) -> String {
    format!("[pictures from the result of {}; the user did not send them]", result.call)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dromia_contracts::CallId;
    use dromia_contracts::content::CallStatus;
    use dromia_contracts::label::Label;

    #[test]
    fn a_caption_is_never_longer_than_what_is_counted_for_it() {
        let call = CallId { step: u32::MAX, index: u32::MAX };
        let image = Part::Image { media: Media::Gif, data: "R0lG".into(), label: Label::CLAIM };
        let parts = vec![Part::text("a", Label::CLAIM), image];
        let result = ToolResult { call, status: CallStatus::Ok, parts };
        assert!(caption(&result).len() <= 128);
        assert!(is_shown(&result));
        assert_eq!(of(&result).collect::<Vec<_>>(), [(Media::Gif, "R0lG")]);
    }
}
