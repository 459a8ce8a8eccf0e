//! The file channel: a file of JSON lines that is followed, and one to which answers are appended.
//!
//! `in.jsonl` and `out.jsonl` are in one directory. Each operation opens them beneath the directory's handle and follows
//! no link, so a writer of that directory leads the server to no other file. How far the input was read is in
//! `cursor.json`, which is replaced as a whole.
//!
//! An answer is appended and synced before it counts as accepted. Its line begins with the delivery's id, so a later life
//! asks the file whether an interrupted attempt arrived, and a torn last line of ours is cut off before the next one.

mod directory;
mod input;
mod output;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use dromia_contracts::agent::HandleSlug;
use dromia_contracts::busy_policy::BusyPolicy;
use dromia_contracts::channel::{
    Channel, ChannelInput, DeliveryClass, DeliveryOutcome, OutgoingMessage, ReceiveError, ReceivedMessage,
    ReceiverAnswer,
};
use dromia_contracts::runtime::IdSource;
use dromia_contracts::{BoxFuture, DeliveryId};

use self::input::InputScan;
use super::DeliveryTerms;

/// The longest line that is read, in bytes.
const LINE_BYTES_MAX: usize = 256 << 10;

/// One file channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChannel {
    /// The tenant.
    pub tenant: HandleSlug,
    /// The agent that answers.
    pub agent: HandleSlug,
    /// What its messages do while a turn runs, if that is not left to the agent.
    pub when_busy: Option<BusyPolicy>,
    /// The directory of its files.
    pub directory: PathBuf,
    /// How answers are tried; their class is [`DeliveryClass::Reconcilable`], whatever it says here.
    pub terms: DeliveryTerms,
}

impl FileChannel {
    /// How its messages are tried.
    pub(super) fn delivery_terms(&self) -> DeliveryTerms {
        DeliveryTerms { class: DeliveryClass::Reconcilable, ..self.terms }
    }
}

/// Reads and writes the files of a channel.
#[derive(Debug)]
pub struct FileAdapter {
    directory: PathBuf,
    /// Names other files in the place of the input.
    ids: Arc<dyn IdSource>,
    scan: Arc<Mutex<InputScan>>,
    /// The lock of the output file. A write that outlives its caller keeps it until it has ended.
    output: Arc<tokio::sync::Mutex<()>>,
}

impl FileAdapter {
    /// Sets it up; nothing is opened.
    pub fn new(channel: FileChannel, ids: Arc<dyn IdSource>) -> Self {
        Self { directory: channel.directory, ids, scan: Arc::default(), output: Arc::default() }
    }

    /// Does the same with the output to itself.
    async fn run_with_output<T: Send + 'static>(
        &self,
        work: impl FnOnce(PathBuf) -> T + Send + 'static,
    ) -> Result<T, String> {
        let held = Arc::clone(&self.output).lock_owned().await;
        let work = move |directory| {
            let done = work(directory);
            drop(held);
            done
        };
        self.run_blocking(work).await
    }

    /// Runs what blocks where blocking is allowed: on a thread of its own, or in place where no runtime has threads, as in a
    /// simulation.
    async fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(PathBuf) -> T + Send + 'static,
    ) -> Result<T, String> {
        let directory = self.directory.clone();
        if tokio::runtime::Handle::try_current().is_err() {
            return Ok(work(directory));
        }
        let done = tokio::task::spawn_blocking(move || work(directory)).await;
        done.map_err(|error| format!("failed to use the files of the channel: {error}"))
    }
}

impl Channel for FileAdapter {
    fn delivery_class(&self) -> DeliveryClass {
        DeliveryClass::Reconcilable
    }

    fn deliver(&self, message: OutgoingMessage) -> BoxFuture<'_, DeliveryOutcome> {
        Box::pin(async move {
            let sent =
                self.run_with_output(move |directory| output::append_message(&directory, &message)).await;
            // Work that panicked may have written its line.
            sent.unwrap_or_else(|cause| DeliveryOutcome::Unanswered { cause })
        })
    }

    fn find_delivered(&self, delivery: DeliveryId) -> BoxFuture<'_, Result<Option<ReceiverAnswer>, String>> {
        Box::pin(async move {
            let found =
                self.run_with_output(move |directory| output::find_line(&directory, delivery)).await?;
            found.map_err(|error| format!("failed to read the output file: {error}"))
        })
    }

    fn receive(&self, input: ChannelInput) -> BoxFuture<'_, Result<Vec<ReceivedMessage>, ReceiveError>> {
        Box::pin(async move {
            if let ChannelInput::Pushed { .. } = input {
                let problem = "a file channel takes no request; append a line to its input file".to_owned();
                return Err(ReceiveError::Invalid { field: None, problem });
            }
            let (scan, fresh) = (Arc::clone(&self.scan), self.ids.new_uuid().simple().to_string());
            self.run_blocking(move |directory| input::read_messages(&directory, &scan, fresh))
                .await
                .map_err(ReceiveError::Unavailable)?
        })
    }

    fn acknowledge(&self, cursor: String) -> BoxFuture<'_, Result<(), ReceiveError>> {
        Box::pin(async move {
            let noted = self.run_blocking(move |directory| input::write_cursor(&directory, &cursor)).await;
            noted.map_err(ReceiveError::Unavailable)?
        })
    }
}
