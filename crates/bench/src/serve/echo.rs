//! The echo server: what HTTP alone costs on this machine, parser and loopback included.

use crate::http::{Connection, response};

/// Serves for ever.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let listener = super::listen().await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            // A client that breaks the protocol ends its own connection only.
            let _ended: std::io::Result<()> = async {
                let mut connection = Connection::new(stream)?;
                while let Some(message) = connection.read().await? {
                    let answer = response(connection.body(&message));
                    connection.write(&answer).await?;
                }
                Ok(())
            }
            .await;
        });
    }
}
