//! The echo server: what HTTP alone costs on this machine, parser and loopback included.

use crate::http::{HttpConnection, encode_response};

/// Serves for ever.
pub(crate) async fn serve_echo() -> anyhow::Result<()> {
    let listener = super::listen_on_loopback().await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            // A client that breaks the protocol ends its own connection only.
            let _ended: std::io::Result<()> = async {
                let mut connection = HttpConnection::new(stream)?;
                while let Some(message) = connection.read_message().await? {
                    let answer = encode_response(connection.message_body(&message));
                    connection.write_message(&answer).await?;
                }
                Ok(())
            }
            .await;
        });
    }
}
