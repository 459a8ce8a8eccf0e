//! A vault that knows one secret of each house, changes nothing, and holds no value.

use dromia_contracts::vault::{GivenUpBy, NewSecret, Placement, Secret, SecretValue, Vault};
use dromia_contracts::{BoxFuture, ErrorCode, Fault, Scope, TenantId};
use jiff::Timestamp;

#[derive(Debug, Default)]
pub(crate) struct Locker(pub(crate) Vec<(TenantId, String)>);

fn shown(name: &str) -> Secret {
    Secret {
        name: name.to_owned(),
        version: 1,
        host: "https://api.example.com:443".to_owned(),
        placement: Placement::Bearer,
        created_at: Timestamp::UNIX_EPOCH,
        changed_at: Timestamp::UNIX_EPOCH,
    }
}

impl Locker {
    fn find(&self, scope: &Scope, name: &str) -> Result<Secret, Fault> {
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
    fn list(&self, scope: Scope, _: Option<String>, _: usize) -> BoxFuture<'_, Result<Vec<Secret>, Fault>> {
        let ours = self.0.iter().filter(|(tenant, _)| *tenant == scope.tenant());
        ready(Ok(ours.map(|(_, name)| shown(name)).collect()))
    }

    fn set(&self, _: Scope, new: NewSecret) -> BoxFuture<'_, Result<Secret, Fault>> {
        ready(Ok(shown(&new.name)))
    }

    fn rotate(&self, scope: Scope, name: String, _: SecretValue) -> BoxFuture<'_, Result<Secret, Fault>> {
        ready(self.find(&scope, &name))
    }

    fn delete(&self, scope: Scope, name: String) -> BoxFuture<'_, Result<Secret, Fault>> {
        ready(self.find(&scope, &name))
    }

    fn reset(&self, scope: Scope, _: GivenUpBy) -> BoxFuture<'_, Result<Vec<Secret>, Fault>> {
        self.list(scope, None, usize::MAX)
    }
}
