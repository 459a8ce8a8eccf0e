//! The policy worker: this program started again, to evaluate what an operator or a tenant wrote where a crash or an
//! endless evaluation does no harm.
//!
//! It reads requests from its standard input and writes one answer to each; when that input closes it ends. Before it reads
//! any it gives up what it does not need ([`limits`]): it opens no file and no connection, starts no program, and has a bound
//! of memory and, for each request, of processor time. What it refuses to do: read a file of the home, know a tenant, keep
//! anything of a question.

mod frame;
mod limits;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use regorus::Value;

pub(super) use self::frame::{WorkerRequest, WorkerResponse, read_length, write_frame};
pub use self::limits::{MEMORY_MAX, STACK};
use super::layer::PolicyLayer;
use super::policy_tests::PolicyTests;
use super::problem::PolicyProblem;

/// The name (`argv[0]`) under which this program is the worker.
pub const WORKER_NAME: &str = "dromia-policy-worker";

/// Does the work of the worker, if this process was started for it.
///
/// `main` calls it before anything else, while the process has one thread; what it returns is the process's end.
pub fn enter_worker(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    (arguments.next()? == WORKER_NAME).then(run_worker)
}

fn run_worker() -> ExitCode {
    // A thread of its own, because that of `main` has the stack that the server's caller gave it.
    let serving = std::thread::Builder::new().stack_size(STACK).spawn(|| {
        limits::give_up()?;
        serve_requests(&mut io::stdin().lock(), &mut io::stdout().lock())
    });
    match serving.map(std::thread::JoinHandle::join) {
        Ok(Ok(Ok(()))) => ExitCode::SUCCESS,
        Ok(Ok(Err(_)) | Err(_)) | Err(_) => ExitCode::FAILURE,
    }
}

/// What the worker has loaded.
#[derive(Default)]
struct WorkerState {
    layers: BTreeMap<String, PolicyLayer>,
    trial: Option<PolicyTests>,
}

/// Answers requests until there are no more.
fn serve_requests(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut loaded = WorkerState::default();
    let mut head = [0; 4];
    loop {
        match from.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
        let mut body = vec![0; read_length(head)?];
        from.read_exact(&mut body)?;
        let request: WorkerRequest<'_> = serde_json::from_slice(&body).map_err(io::Error::other)?;
        limits::begin_request()?;
        let answer = loaded.answer_request(request);
        write_frame(to, &serde_json::to_vec(&answer).map_err(io::Error::other)?)?;
    }
}

impl WorkerState {
    fn answer_request(&mut self, request: WorkerRequest<'_>) -> WorkerResponse {
        match request {
            WorkerRequest::Load { digest, name, files } => {
                WorkerResponse::Loaded(PolicyLayer::compile_layer(&name, &files).map(|layer| {
                    self.layers.insert(digest.into_owned(), layer);
                }))
            }
            WorkerRequest::Ask { digest, question } => {
                WorkerResponse::Said(match self.layers.get(&*digest) {
                    Some(layer) => layer.ask_question(&Value::from(question.into_owned())),
                    None => Err(PolicyProblem::in_file("policy", "it was not loaded")),
                })
            }
            WorkerRequest::LoadTests { name, files } => {
                WorkerResponse::Tests(PolicyTests::compile_tests(&name, &files).map(|trial| {
                    let names = trial.test_names().to_vec();
                    self.trial = Some(trial);
                    names
                }))
            }
            WorkerRequest::Test { name } => WorkerResponse::Tested(match &self.trial {
                Some(trial) => trial.run_test(&name),
                None => Some("it was not loaded".to_owned()),
            }),
        }
    }
}
