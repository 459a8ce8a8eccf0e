//! A vault that knows one secret of each house, changes nothing, and holds no value.

use dromia_contracts::vault::{GivenUpBy, NewSecret, SecretPlacement, SecretSummary, SecretValue, Vault};
use dromia_contracts::{BoxFuture, ErrorCode, Fault, Scope, TenantId};
use jiff::Timestamp;

#[derive(Debug, Default)]
pub(crate) struct Locker(pub(crate) Vec<(TenantId, String)>);

fn shown(name: &str) -> SecretSummary {
    SecretSummary {
        name: name.to_owned(),
        version: 1,
        host: "https://api.example.com:443".to_owned(),
        placement: SecretPlacement::Bearer,
        created_at: Timestamp::UNIX_EPOCH,
        changed_at: Timestamp::UNIX_EPOCH,
    }
}

impl Locker {
    fn find(&self, scope: &Scope, name: &str) -> Result<SecretSummary, Fault> {
        let found = self.0.iter().find(|(tenant, known)| (*tenant, known.as_str()) == (scope.tenant(), name));
        found
            .map(|(_, name)| shown(name))
            .ok_or_else(|| Fault::new(ErrorCode::SecretNotFound, "no such secret"))
    }
}

fn ready<T: Send + 'static>(answer: T) -> BoxFuture<'static, T> {
    Box::pin(std::future::ready(answer))
}

impl Vault for Locker {
    fn list_secrets(
        &self,
        scope: Scope,
        _: Option<String>,
        _: usize,
    ) -> BoxFuture<'_, Result<Vec<SecretSummary>, Fault>> {
        let ours = self.0.iter().filter(|(tenant, _)| *tenant == scope.tenant());
        ready(Ok(ours.map(|(_, name)| shown(name)).collect()))
    }

    fn set_secret(&self, _: Scope, new: NewSecret) -> BoxFuture<'_, Result<SecretSummary, Fault>> {
        ready(Ok(shown(&new.name)))
    }

    fn rotate_secret(
        &self,
        scope: Scope,
        name: String,
        _: SecretValue,
    ) -> BoxFuture<'_, Result<SecretSummary, Fault>> {
        ready(self.find(&scope, &name))
    }

    fn delete_secret(&self, scope: Scope, name: String) -> BoxFuture<'_, Result<SecretSummary, Fault>> {
        ready(self.find(&scope, &name))
    }

    fn reset_vault(&self, scope: Scope, _: GivenUpBy) -> BoxFuture<'_, Result<Vec<SecretSummary>, Fault>> {
        self.list_secrets(scope, None, usize::MAX)
    }
}
