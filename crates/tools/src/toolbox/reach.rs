//! The line of agents for what is asked in their name without a call, such as a picture that a request names by URL: the
//! line that `http.request` has, with its bounds and its shares, as the newest configuration sets them.

use dromia_contracts::BoxFuture;
use dromia_contracts::egress::{
    EgressClient, EgressError, EgressRequest, EgressResponse, EgressTunnel, TunnelRequest,
};

use super::Toolbox;

impl EgressClient for Toolbox {
    fn send_request(&self, request: EgressRequest) -> BoxFuture<'_, Result<EgressResponse, EgressError>> {
        let line = self.call_settings().granted;
        Box::pin(async move { line.send_request(request).await })
    }

    fn request_tunnel(&self, request: TunnelRequest) -> BoxFuture<'_, Result<EgressTunnel, EgressError>> {
        let line = self.call_settings().granted;
        Box::pin(async move { line.request_tunnel(request).await })
    }
}
