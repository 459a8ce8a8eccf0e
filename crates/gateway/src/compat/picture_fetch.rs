//! Pictures that a client names by URL. They are fetched before the request is stored, so that what is stored is what the
//! model sees, and a server that takes the run over fetches nothing.
//!
//! They leave by the line of agents, under the grants of the agent that is asked; the gate judges each as the
//! `http.request` that it would be, and each attempt is sealed in the audit. It refuses what a person would have to allow,
//! and every answer whose first bytes are not those of a picture.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use dromia_contracts::agent::AgentRecord;
use dromia_contracts::audit::AuditChange;
use dromia_contracts::content::{ContentPart, ImageMediaType, ToolCall};
use dromia_contracts::egress::{
    EgressDecision, EgressError, EgressFault, EgressRequest, EgressResponse, EgressTarget, HttpMethod,
    OversizedPart,
};
use dromia_contracts::gate::{DEFAULT_DENY, GateAction, GateVerdict, Principal};
use dromia_contracts::label::Label;
use dromia_contracts::plan::PlanContext;
use dromia_contracts::store::ItemKey;
use dromia_contracts::tool::{EffectClass, PreparedCall};
use dromia_contracts::transcript::TranscriptTurn;
use dromia_contracts::{AgentId, CallId, Digest, Scope};
use tokio::time::{Instant, timeout};

use super::field_error::invalid_field;
use super::history::ConversationInput;
use super::image::remote_picture;
use crate::core::{GatewayCore, Shared};
use crate::failure::{Answer, ApiError};
use crate::ingress;
use crate::routes::agent::no_such_agent;

/// How long all pictures of a request may take.
const TIME_MAX: Duration = Duration::from_secs(20);

/// The most bytes that the pictures of a request have together: what an input holds in base64, with room for words.
const BYTES_MAX: usize = 380 << 10;

/// As which tool policies see a fetch.
const TOOL: &str = "http.request";

/// Pictures by their URLs.
type FetchedPictures = BTreeMap<String, (ImageMediaType, String)>;

/// Fetches what a request names by URL, each URL once, and puts it in its place. A repeat joins what its first request
/// fetched: there, words take the place of pictures.
pub(super) async fn resolve_pictures(
    core: &Shared,
    scope: &Scope,
    agent: AgentId,
    key: Option<&ItemKey>,
    said: &mut ConversationInput,
) -> Answer<()> {
    let wanted = RefCell::new(Vec::new());
    replace_pictures(said, &|url, path| {
        wanted.borrow_mut().push((url.to_owned(), path.to_owned()));
        None
    });
    let wanted = wanted.into_inner();
    if wanted.is_empty() {
        return Ok(());
    }
    if let Some(key) = key
        && ingress::is_known(core, scope, key, core.ports.runtime.clock.now()).await?
    {
        replace_pictures(said, &|url, _| {
            Some(ContentPart::new_text(format!("[a picture at {url}]"), Label::CLAIM))
        });
        return Ok(());
    }
    let (shared, scope) = (Shared::clone(core), scope.clone());
    // A client that hangs up must not keep a fetch out of the audit.
    let fetching = core.ports.runtime.carried_through(async move {
        let fetch = PictureFetch::for_agent(&shared, &scope, agent).await?;
        fetch.fetch_all(&wanted).await
    });
    let fetched = fetching.await?;
    replace_pictures(said, &|url, _| {
        let (media, data) = fetched.get(url)?.clone();
        Some(ContentPart::Image { media, data, label: Label::CLAIM })
    });
    Ok(())
}

/// Gives another part by the URL of a picture and its place in the request.
type PictureReplacer<'a> = &'a dyn Fn(&str, &str) -> Option<ContentPart>;

/// Goes over the pictures at URLs, and puts a part in the place of each for which one is given.
fn replace_pictures(said: &mut ConversationInput, replace: PictureReplacer<'_>) {
    for turn in &mut said.history {
        match turn {
            TranscriptTurn::Input(message) => replace_parts(&mut message.parts, replace),
            TranscriptTurn::Summary(parts) => replace_parts(parts, replace),
            TranscriptTurn::Unit(unit) => {
                let mut results = unit.results().iter();
                if results.any(|result| result.parts.iter().any(|part| remote_picture(part).is_some())) {
                    let call = |call: &ToolCall| (call.tool.clone(), call.arguments.clone());
                    *unit = unit.map_content(unit.message().parts.clone(), call, |result| {
                        let mut parts = result.parts.clone();
                        replace_parts(&mut parts, replace);
                        parts
                    });
                }
            }
        }
    }
    for result in said.answers.iter_mut().flat_map(|answers| &mut answers.results) {
        replace_parts(&mut result.parts, replace);
    }
    replace_parts(&mut said.parts, replace);
}

fn replace_parts(parts: &mut [ContentPart], replace: PictureReplacer<'_>) {
    for part in parts {
        if let Some(other) = remote_picture(part).and_then(|(url, path)| replace(url, path)) {
            *part = other;
        }
    }
}

/// For whom pictures are fetched.
struct PictureFetch<'a> {
    core: &'a GatewayCore,
    scope: &'a Scope,
    agent: AgentRecord,
    /// What the agent's configuration grants, and what the operator says beside it.
    grants: Vec<String>,
}

/// Why there is no picture.
enum FetchProblem {
    /// No grant of the agent covers the host.
    NotGranted,
    /// There is none in another way.
    Unusable(String),
}

impl<'a> PictureFetch<'a> {
    async fn for_agent(core: &'a GatewayCore, scope: &'a Scope, agent: AgentId) -> Answer<Self> {
        let agent = core.ports.store.agent(scope, agent).await?.ok_or_else(no_such_agent)?;
        let revision = core.ports.store.agent_revision(scope, agent.id, agent.revision).await?;
        let mut grants = revision.ok_or_else(no_such_agent)?.config.grants;
        grants.extend(core.ports.terms.operator_grants(scope, agent.id).await?);
        Ok(Self { core, scope, agent, grants })
    }

    /// Fetches one after the other, so that a request has one place of the line at a time.
    async fn fetch_all(&self, wanted: &[(String, String)]) -> Answer<FetchedPictures> {
        let mut fetched = FetchedPictures::new();
        let deadline = Instant::now() + TIME_MAX;
        let mut left = BYTES_MAX;
        for (url, path) in wanted {
            if fetched.contains_key(url) {
                continue;
            }
            let mut decisions = Vec::new();
            let time = deadline.saturating_duration_since(Instant::now());
            let ended = timeout(time, self.fetch_one(url, left, &mut decisions)).await;
            let late =
                || FetchProblem::Unusable("the pictures of a request have 20 seconds together".to_owned());
            let ended = ended.unwrap_or_else(|_| Err(late()));
            self.seal_attempt(url, &decisions, ended.as_ref().map(|(_, bytes)| &bytes[..])).await?;
            let (media, bytes) =
                ended.map_err(|problem| self.refusal(path, &asked_host(url, &decisions), problem))?;
            left -= bytes.len();
            fetched.insert(url.to_owned(), (media, STANDARD.encode(bytes)));
        }
        Ok(fetched)
    }

    async fn fetch_one(
        &self,
        url: &str,
        bytes_max: usize,
        decisions: &mut Vec<EgressDecision>,
    ) -> Result<(ImageMediaType, Vec<u8>), FetchProblem> {
        self.ask_gate(url).await?;
        let unusable = |problem: String| Err(FetchProblem::Unusable(problem));
        let request = EgressRequest {
            method: HttpMethod::Get,
            url: url.to_owned(),
            headers: vec![("accept".to_owned(), "image/png, image/jpeg, image/gif, image/webp".to_owned())],
            body: Bytes::new(),
            grants: self.grants.clone(),
            share: self.scope.tenant().to_string(),
            secrets: Vec::new(),
        };
        let EgressResponse { status, decisions: judged, mut body, .. } =
            match self.core.ports.reach.send_request(request).await {
                Ok(response) => response,
                Err(EgressError { failure, decisions: judged, .. }) => {
                    *decisions = judged;
                    return Err(match failure {
                        EgressFault::Refused { rule, .. } if rule == DEFAULT_DENY => FetchProblem::NotGranted,
                        failure => FetchProblem::Unusable(failure.to_string()),
                    });
                }
            };
        *decisions = judged;
        if status != 200 {
            return unusable(format!("the host answered {status}"));
        }
        let mut bytes = Vec::new();
        let too_large =
            || unusable(format!("the pictures of a request have at most {BYTES_MAX} bytes together"));
        loop {
            let chunk = match body.next_chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(EgressFault::TooLarge { part: OversizedPart::Response, .. }) => return too_large(),
                Err(fault) => return unusable(fault.to_string()),
            };
            if bytes.len() + chunk.len() > bytes_max {
                return too_large();
            }
            bytes.extend_from_slice(&chunk);
            // What is no picture is not read to its end.
            if bytes.len() >= 12 && ImageMediaType::sniff_bytes(&bytes).is_none() {
                break;
            }
        }
        match ImageMediaType::sniff_bytes(&bytes) {
            Some(media) => Ok((media, bytes)),
            None => unusable("what the host sent is no PNG, JPEG, GIF or WebP picture".to_owned()),
        }
    }

    /// Has the gate judge the fetch as the call that it would be, so that what a policy says of hosts counts here too.
    async fn ask_gate(&self, url: &str) -> Result<(), FetchProblem> {
        let reaches = EgressTarget { method: HttpMethod::Get, url: url.to_owned(), secrets: Vec::new() };
        let call = PreparedCall {
            id: CallId::PROBE,
            tool: TOOL.to_owned(),
            effect: EffectClass::Pure,
            arguments: serde_json::json!({"method": "GET", "url": url}).to_string(),
            action: Digest::default(),
            reaches: Some(reaches),
            network: None,
            contents: None,
        };
        // The host is what the agent needs a grant for; it is the server that uses the tool.
        let grants = [&self.grants[..], &[TOOL.to_owned()]].concat();
        let endorsed = ["method".to_owned(), "url".to_owned()];
        let principal = Principal {
            scope: self.scope,
            author: self.scope.actor(),
            grants: &grants,
            context: Label::ACTOR_TEXT,
            endorsed: &endorsed,
            plan: PlanContext::OPEN,
        };
        match self.core.ports.gate.evaluate_action(principal, GateAction::Tool(&call)).await {
            GateVerdict::Allow { .. } => Ok(()),
            GateVerdict::Deny { rule, .. } if rule == DEFAULT_DENY => Err(FetchProblem::NotGranted),
            GateVerdict::Deny { reason, .. } => Err(FetchProblem::Unusable(reason)),
            GateVerdict::Ask { reason, .. } | GateVerdict::Delay { reason, .. } => {
                Err(FetchProblem::Unusable(format!("a person would have to allow it ({reason})")))
            }
        }
    }

    /// Seals which host was asked for a picture and what came of it; the path of the URL stays out, it may be a key.
    async fn seal_attempt(
        &self,
        url: &str,
        decisions: &[EgressDecision],
        ended: Result<&[u8], &FetchProblem>,
    ) -> Answer<()> {
        let last = decisions.last();
        let act = AuditChange::PictureFetched {
            agent: self.agent.id,
            host: asked_host(url, decisions),
            rule: match (last, &ended) {
                (Some(last), _) => Some(last.rule.clone()),
                (None, Err(FetchProblem::NotGranted)) => Some(DEFAULT_DENY.to_owned()),
                (None, _) => None,
            },
            content: ended.ok().map(|bytes| Digest::from_bytes(*blake3::hash(bytes).as_bytes())),
        };
        let now = self.core.ports.runtime.clock.now();
        Ok(self.core.ports.audit.audit_act(self.scope, act, now).await?)
    }

    fn refusal(&self, path: &str, host: &str, problem: FetchProblem) -> ApiError {
        let itself = "send the picture itself in base64";
        match problem {
            FetchProblem::Unusable(problem) => {
                let text = format!("the server did not get the picture from {host}: {problem}");
                invalid_field(path, &text).with_hint(format!("{itself}, or another URL"))
            }
            FetchProblem::NotGranted => {
                let agent = &self.agent.handle;
                let text =
                    format!("the agent {agent} is not granted to reach {host}, so no picture is fetched");
                let grant = format!("dromia agent set {agent} grants+=net.read:{host}");
                invalid_field(path, &text).with_hint(format!("{itself}, or have an operator run `{grant}`"))
            }
        }
    }
}

/// Names the last host that was asked, as a grant does; never what in a URL may be a credential.
fn asked_host(url: &str, decisions: &[EgressDecision]) -> String {
    let last = decisions.last().map_or("", |last| last.to.as_str());
    let (scheme, rest) = if last.is_empty() { url } else { last }.split_once("://").unwrap_or_default();
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host).to_ascii_lowercase();
    let own_port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    host.strip_suffix(own_port).map(str::to_owned).unwrap_or(host)
}
