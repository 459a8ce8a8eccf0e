//! The proxy socket of a process with network access: a socket inside of its namespace, whose other side is here.
//!
//! The namespace of the process has a loopback interface and nothing else. A socket made in there listens at
//! [`ADDRESS`], and its descriptor goes to the server over the helper's socket, before the program starts; the program
//! never has it. So whatever the program connects to ends at the server, or nowhere. No other process can reach the
//! address, because no other is in the namespace.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use dromia_contracts::sandbox::{NetworkAccess, ProcessSpec, SandboxError};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use tokio::io::Interest;

use crate::sys;

/// Where a process finds its proxy.
pub(crate) const ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 3128);

/// The names by which programs look for a proxy.
const VARIABLES: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"];

/// The byte that goes with the descriptor. No report begins with it.
const GREETING: &[u8] = b"d";

/// What the environment of a process says about its proxy.
pub(crate) fn proxy_variables(network: NetworkAccess) -> Vec<(String, String)> {
    match network {
        NetworkAccess::None => Vec::new(),
        NetworkAccess::Proxy => {
            VARIABLES.into_iter().map(|name| (name.to_owned(), format!("http://{ADDRESS}"))).collect()
        }
    }
}

/// Refuses a spec that asks for a proxy socket if the backend has none.
pub(crate) fn refuse_proxy(spec: &ProcessSpec, backend: &'static str) -> Result<(), SandboxError> {
    match spec.network {
        NetworkAccess::None => Ok(()),
        NetworkAccess::Proxy => Err(SandboxError::Unavailable {
            missing: format!("{backend} has no socket for a proxy, which the programs of this tool need"),
            fix: "set `network: none` for the tool in dromia.yaml, or run `dromia doctor --only sandbox` to \
                  see what native/strict or bubblewrap needs"
                .to_owned(),
        }),
    }
}

/// Makes the proxy socket in the network namespace of this process, and sends it over `control`.
///
/// It is called before this process restricts itself. `is_raised` says that the loopback interface is up.
pub(crate) fn open_proxy_socket(control: &UnixStream, is_raised: bool) -> io::Result<()> {
    if !is_raised {
        sys::raise_loopback()?;
    }
    let listener = TcpListener::bind(ADDRESS)?;
    hand_over(control, &listener)
}

fn hand_over(control: &UnixStream, listener: &TcpListener) -> io::Result<()> {
    let descriptors = [listener.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut with = SendAncillaryBuffer::new(&mut space);
    if !with.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("a descriptor has no room in its message"));
    }
    rustix::net::sendmsg(control, &[IoSlice::new(GREETING)], &mut with, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits for the proxy socket. Anything else that comes first begins a report, and is given back.
pub(crate) async fn receive_proxy_socket(
    control: &tokio::net::UnixStream,
) -> io::Result<(Option<TcpListener>, Vec<u8>)> {
    let (descriptor, said) = control.async_io(Interest::READABLE, || receive_descriptor(control)).await?;
    let Some(descriptor) = descriptor else { return Ok((None, said)) };
    let listener = TcpListener::from(descriptor);
    listener.set_nonblocking(true)?;
    Ok((Some(listener), Vec::new()))
}

/// Reads one byte, and the descriptor that comes with it.
fn receive_descriptor(control: &tokio::net::UnixStream) -> io::Result<(Option<OwnedFd>, Vec<u8>)> {
    let mut byte = [0_u8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut with = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut byte)];
    let got = rustix::net::recvmsg(control, &mut into, &mut with, RecvFlags::CMSG_CLOEXEC)?;
    let descriptor = with.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok((descriptor, byte[..got.bytes.min(1)].to_vec()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn a_proxy_socket_is_handed_over_as_itself() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let made = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = made.local_addr().expect("an address");
        hand_over(&theirs, &made).expect("it is sent");
        drop(made);
        ours.set_nonblocking(true).expect("a socket");
        let ours = tokio::net::UnixStream::from_std(ours).expect("a socket");
        let (listener, said) = receive_proxy_socket(&ours).await.expect("it comes");
        let listener = listener.expect("a listener");
        assert!(said.is_empty());
        let mut program = TcpStream::connect(address).expect("somebody listens");
        listener.set_nonblocking(false).expect("a socket");
        let (mut server, _) = listener.accept().expect("it is the same socket");
        server.write_all(b"x").expect("it is sent");
        let mut heard = [0];
        program.read_exact(&mut heard).expect("it is heard");
        assert_eq!(&heard, b"x");
    }

    #[tokio::test]
    async fn a_report_that_comes_instead_loses_no_byte() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        theirs.write_all(b"{}").expect("it is sent");
        ours.set_nonblocking(true).expect("a socket");
        let ours = tokio::net::UnixStream::from_std(ours).expect("a socket");
        let (listener, said) = receive_proxy_socket(&ours).await.expect("it comes");
        assert_eq!((listener.is_none(), &said[..]), (true, &b"{"[..]));
        drop(theirs);
        let mut rest = [0; 4];
        assert_eq!(ours.try_read(&mut rest).expect("the rest is there"), 1);
    }

    #[test]
    fn proxy_variables_are_set_only_with_a_proxy() {
        assert!(proxy_variables(NetworkAccess::None).is_empty());
        let told = proxy_variables(NetworkAccess::Proxy);
        assert_eq!(told.len(), 4);
        assert!(told.iter().all(|(_, value)| value == "http://127.0.0.1:3128"), "{told:?}");
    }
}
