//! Pictures in the results of tools.
//!
//! A format that takes pictures in a result carries them there. In the others they follow the results of their unit as
//! a message with the user's role, and a line before them says that no user sent them. A result without a picture keeps
//! its bytes.

use dromia_contracts::content::{ContentPart, ImageMediaType, ToolResult};

/// A picture as an address that holds it.
pub(crate) fn data_url(media: ImageMediaType, data: &str) -> String {
    format!("data:{};base64,{data}", media.as_str())
}

/// Tells whether a result has a picture.
pub(crate) fn is_shown(result: &ToolResult) -> bool {
    result.parts.iter().any(ContentPart::is_image)
}

/// The pictures of a result, in their order.
pub(crate) fn result_pictures(result: &ToolResult) -> impl Iterator<Item = (ImageMediaType, &str)> {
    result.parts.iter().filter_map(|part| match part {
        ContentPart::Text { .. } => None,
        ContentPart::Image { media, data, .. } => Some((*media, data.as_str())),
    })
}

/// The line before pictures that follow their result. It has at most 128 bytes, which is what [`crate::tokens`] counts
/// for it.
pub(crate) fn pictures_caption(result: &ToolResult) -> String {
    format!("[pictures from the result of {}; the user did not send them]", result.call)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dromia_contracts::CallId;
    use dromia_contracts::content::CallStatus;
    use dromia_contracts::label::Label;

    #[test]
    fn a_caption_never_exceeds_its_counted_length() {
        let call = CallId { step: u32::MAX, index: u32::MAX };
        let image =
            ContentPart::Image { media: ImageMediaType::Gif, data: "R0lG".into(), label: Label::CLAIM };
        let parts = vec![ContentPart::new_text("a", Label::CLAIM), image];
        let result = ToolResult { call, status: CallStatus::Ok, parts };
        assert!(pictures_caption(&result).len() <= 128);
        assert!(is_shown(&result));
        assert_eq!(result_pictures(&result).collect::<Vec<_>>(), [(ImageMediaType::Gif, "R0lG")]);
    }
}
