//! A server that answers from a script and keeps what it was asked, and a command line to run against it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use clap::Parser;
use dromia_cli::format::ColorHints;
use dromia_cli::{
    ClientCommand, CommandContext, CommandExit, EchoGuard, GlobalOptions, LocalTime, TextEditor,
    published_schemas, run_command,
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::UnixListener;

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub line: String,
    pub tenant: String,
    pub last_event: Option<String>,
    pub key: Option<String>,
    pub expected: Option<String>,
    pub body: String,
}

/// The key of each command that is run.
pub const KEY: &str = "key-1";

/// A status that is none: the connection breaks.
pub const CUT: u16 = 0;

/// What the script says to a request: status and body.
pub type Script = fn(&Asked, usize) -> (u16, String);

/// A scripted server with a home of its own.
pub struct Server {
    pub home: tempfile::TempDir,
    pub asked: Arc<Mutex<Vec<Asked>>>,
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Ended {
    pub exit: CommandExit,
    pub out: String,
    pub err: String,
}

impl Server {
    /// A home without a server.
    pub fn absent() -> Self {
        Self { home: tempfile::tempdir().unwrap(), asked: Arc::default() }
    }

    /// A home with a server that follows the script; it is told how many requests came before.
    pub fn new(script: Script) -> Self {
        Self::serving(script, usize::MAX)
    }

    /// The same, and it is gone after so many connections.
    pub fn serving(script: Script, connections: usize) -> Self {
        let server = Self::absent();
        std::fs::create_dir(server.home.path().join("run")).unwrap();
        let listener = UnixListener::bind(server.socket()).unwrap();
        let asked = server.asked.clone();
        tokio::spawn(async move {
            for _ in 0..connections {
                let Ok((stream, _)) = listener.accept().await else { break };
                let asked = asked.clone();
                let service = service_fn(move |request| answer(script, asked.clone(), request));
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        server
    }

    pub fn socket(&self) -> PathBuf {
        self.home.path().join("run").join("dromia.sock")
    }

    pub fn lines(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|asked| asked.line.clone()).collect()
    }

    /// Runs a command line, with nothing to read and no terminal.
    pub async fn run(&self, line: &[&str]) -> Ended {
        self.typed(line, "", false).await
    }

    /// Runs a command line with something to read. A terminal says on stderr since when, and until when, it shows nothing.
    pub async fn typed(&self, line: &[&str], input: &str, is_terminal: bool) -> Ended {
        self.within(line, input.as_bytes(), is_terminal, None).await
    }

    /// Runs a command line on a terminal of so many columns.
    pub async fn shown(&self, line: &[&str], columns: u16) -> Ended {
        self.within(&[line, &["--color", "never"]].concat(), b"", true, Some(columns)).await
    }

    /// Runs a command line whose result goes into a pipe, where a variable says how wide a table may be.
    pub async fn piped(&self, line: &[&str], columns: u16) -> Ended {
        self.within(line, b"", false, Some(columns)).await
    }

    /// Runs a command line with bytes to read that need not be a text.
    pub async fn fed(&self, line: &[&str], input: &[u8]) -> Ended {
        self.within(line, input, false, None).await
    }

    async fn within(&self, line: &[&str], input: &[u8], is_terminal: bool, columns: Option<u16>) -> Ended {
        let cli = Cli::try_parse_from(std::iter::once(&"dromia").chain(line)).unwrap();
        let (out, err) = (Buffer::default(), Buffer::default());
        let mut context = CommandContext {
            input: Box::new(io::Cursor::new(input.to_owned())),
            input_is_terminal: is_terminal,
            hide: is_terminal.then(|| err.hide()),
            open_editor: None,
            out: Box::new(out.clone()),
            out_is_terminal: is_terminal,
            err: Box::new(err.clone()),
            err_is_terminal: is_terminal,
            color_hints: ColorHints::default(),
            fields: fields(line),
            local_time: is_terminal.then(|| LocalTime {
                now: "2026-01-02T03:07:05Z".parse().unwrap(),
                zone: jiff::tz::TimeZone::UTC,
            }),
            columns,
            terminal: dromia_cli::TerminalAccess::default(),
            home: self.home.path().to_owned(),
            remote: dromia_cli::RemoteHints { names_home: true, ..dromia_cli::RemoteHints::default() },
            editor: is_terminal.then(|| scripted_editor(input)),
            request_key: KEY.to_owned(),
        };
        let exit = run_command(cli.command, &cli.global, &mut context).await;
        Ended { exit, out: out.text(), err: err.text() }
    }
}

/// An editor that replaces, each time it is opened, what the next line of the input says: `OLD=>NEW`.
fn scripted_editor(input: &[u8]) -> TextEditor {
    let lines: Vec<String> = String::from_utf8_lossy(input).lines().map(str::to_owned).collect();
    let edits = Mutex::new(lines.into_iter());
    Box::new(move |text| {
        let edit = edits.lock().unwrap().next();
        let (old, new) = edit.as_deref().and_then(|edit| edit.split_once("=>")).unwrap_or_default();
        assert!(text.contains(old), "{old:?} is not in {text}");
        Ok(text.replace(old, if old.is_empty() { "" } else { new }))
    })
}

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    global: GlobalOptions,
    #[command(subcommand)]
    command: ClientCommand,
}

/// The fields of the command that a line names by its canonical words.
fn fields(line: &[&str]) -> Vec<String> {
    let typed = line.join(" ");
    let named = published_schemas().into_iter().find(|one| typed.starts_with(one.command));
    named.map(|one| one.field_names()).unwrap_or_default()
}

async fn answer(
    script: Script,
    asked: Arc<Mutex<Vec<Asked>>>,
    request: Request<Incoming>,
) -> io::Result<Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    let header = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let body = body.collect().await.unwrap().to_bytes();
    let this = Asked {
        line: format!("{} {}", parts.method, parts.uri),
        tenant: header("x-dromia-tenant").unwrap_or_default(),
        last_event: header("last-event-id"),
        key: header("idempotency-key"),
        expected: header("if-match"),
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    let before = asked.lock().unwrap().len();
    let (status, body) = script(&this, before);
    asked.lock().unwrap().push(this);
    if status == CUT {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    Ok(Response::builder().status(status).body(Full::new(body.into())).unwrap())
}

#[derive(Debug, Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn hide(&self) -> Box<dyn Fn() -> io::Result<EchoGuard> + Send> {
        let err = self.clone();
        Box::new(move || {
            err.clone().write_all(b"[hidden]\n")?;
            let mut err = err.clone();
            Ok(EchoGuard::restore_with(move || err.write_all(b"[shown]\n").unwrap()))
        })
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
