//! How much memory a transcript takes.

use dromia_contracts::transcript::TranscriptTurn;

use super::ConversationTranscript;
use crate::byte_count::count_bytes;

impl ConversationTranscript {
    /// Returns about how many bytes it holds, as it would be written.
    pub(crate) fn held_bytes(&self) -> usize {
        let waiting = self.client.waiting.iter().map(|(_, open)| open);
        let open = self.open.iter().chain(waiting);
        let open: usize = open.map(|open| count_bytes(open.message()) + count_bytes(&open.results())).sum();
        let asked = self.asked.as_ref().map_or(0, |call| call.tool.len() + call.arguments.len());
        // A summary is never written as a turn.
        let turns = self.transcript.turns().iter().map(|turn| match turn {
            TranscriptTurn::Summary(parts) => count_bytes(parts),
            turn @ (TranscriptTurn::Input(_) | TranscriptTurn::Unit(_)) => count_bytes(turn),
        });
        let said = turns.sum::<usize>() + count_bytes(&self.reply) + open + asked;
        said + self.taint.past.content_bytes() + self.client.offered.held_bytes()
    }
}
