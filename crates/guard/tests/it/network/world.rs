//! Two network namespaces with a wire between them: in one is the test, in the other a machine that has every address.
//!
//! The test begins itself again in the first one (`unshare`), with a table of hosts and a server of names of its own.
//! The machine listens at the ports of HTTP and HTTPS and notes at which address each connection came in.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::thread::LinkNameSpaceType;

use crate::spellings::{HERE, NAMES};

/// Says to a test that it is in its namespace.
const MARK: &str = "DROMIA_TEST_NETWORK";

/// The longest wait for anything.
const DEADLINE: Duration = Duration::from_secs(30);

/// How long a connection may say nothing.
const SILENCE: Duration = Duration::from_secs(1);

/// The ends of the wire.
const TEST_SIDE: [&str; 2] = ["192.168.255.2/30", "fd99:1::2/64"];
const WORLD_SIDE: [&str; 2] = ["192.168.255.1/30", "fd99:1::1/64"];
const GATEWAYS: [&str; 2] = ["192.168.255.1", "fd99:1::1"];

/// Where the names are told.
const NAME_SERVER: &str = "192.168.255.1:53";

/// An address of the other machine that no test asks for.
const FENCE: &str = "203.0.113.77";

/// Names that only these tests ask for.
const MORE_NAMES: &[(&str, &[&[&str]])] = &[
    ("public.example", &[&["93.184.216.34"]]),
    ("rebinding.example", &[&["93.184.216.34"], &["169.254.169.254"]]),
];

const NEEDS: &str = "this test makes network namespaces: it needs root, or user namespaces for everybody \
    (kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0), veth in the kernel, \
    and `apt-get install iproute2 util-linux`";

/// Where a connection came in.
pub(super) type Heard = (IpAddr, u16);

/// The network of a test.
pub(super) struct World {
    heard: Arc<Mutex<Vec<Heard>>>,
    /// Keeps the other namespace until there are sockets in it.
    holder: Holder,
}

/// Plays a scene in a network of its own. `test` is the whole name of the test that calls this.
pub(super) fn play(test: &str, locations: &[String], scene: impl FnOnce(&World)) {
    if std::env::var_os(MARK).is_some() {
        return scene(&World::make(locations));
    }
    let files = Files::write();
    let mut command = tool("unshare");
    // The owner of this directory is who this process acts as.
    if std::fs::metadata("/proc/self").expect("it is there").uid() != 0 {
        command.args(["--user", "--map-root-user"]);
    }
    let script = "for name in hosts resolv.conf nsswitch.conf; do mount --bind \"$1/$name\" /etc/$name; done; shift; exec \"$@\"";
    let output = command
        .args(["--net", "--mount", "sh", "-euc", script, "sh"])
        .arg(&files.directory)
        .arg(std::env::current_exe().expect("it is known"))
        .args(["--exact", test, "--nocapture"])
        .env(MARK, "1")
        .output()
        .unwrap_or_else(|problem| panic!("unshare: {problem}; {NEEDS}"));
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}\n{NEEDS}");
    assert!(said.contains("1 passed"), "it did not run again: {said}");
}

/// What the system's resolver reads.
struct Files {
    directory: PathBuf,
}

impl Files {
    fn write() -> Self {
        static NUMBERS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBERS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("network-{}-{number}", std::process::id());
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&directory).expect("a directory");
        let name_server = NAME_SERVER.trim_end_matches(":53");
        for (name, text) in [
            ("hosts", "127.0.0.1 localhost\n::1 localhost\n".to_owned()),
            ("resolv.conf", format!("nameserver {name_server}\noptions timeout:2 attempts:3\n")),
            ("nsswitch.conf", "hosts: files dns\n".to_owned()),
        ] {
            std::fs::write(directory.join(name), text).expect("it is written");
        }
        Self { directory }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

/// A program of the system, which may lie where only root looks.
fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    command
}

/// Runs a command line of words without blanks.
fn run(line: &str) {
    let mut words = line.split(' ');
    let output = tool(words.next().expect("a program")).args(words).output();
    let output = output.unwrap_or_else(|problem| panic!("{line}: {problem}; {NEEDS}"));
    assert!(output.status.success(), "{line}: {}; {NEEDS}", String::from_utf8_lossy(&output.stderr));
}

/// A process that does nothing in a network namespace of its own.
struct Holder(Child);

impl Holder {
    fn start() -> Self {
        // It dies with this test, however that ends.
        let child = tool("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--net", "sleep", "600"])
            .spawn()
            .unwrap_or_else(|problem| panic!("setpriv: {problem}; {NEEDS}"));
        let holder = Self(child);
        let own = std::fs::read_link("/proc/self/ns/net").expect("it is told");
        let until = Instant::now() + DEADLINE;
        loop {
            if std::fs::read_link(holder.namespace()).is_ok_and(|found| found != own) {
                return holder;
            }
            assert!(Instant::now() < until, "unshare --net makes no namespace; {NEEDS}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn namespace(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.0.id()))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl World {
    fn make(locations: &[String]) -> Self {
        let holder = Holder::start();
        let pid = holder.0.id();
        let there = format!("nsenter --target {pid} --net ip");
        run("ip link add near type veth peer name far");
        run(&format!("ip link set far netns {pid}"));
        // A public address of this very machine.
        run(&format!("ip addr add {HERE}/32 dev lo"));
        let sides = [("ip", "near", TEST_SIDE), (there.as_str(), "far", WORLD_SIDE)];
        for (ip, wire, _) in sides {
            run(&format!("{ip} link set lo up"));
            run(&format!("{ip} link set {wire} up"));
        }
        for (ip, wire, [v4, v6]) in sides {
            run(&format!("{ip} addr add {v4} dev {wire}"));
            run(&format!("{ip} -6 addr add {v6} dev {wire} nodad"));
        }
        for (family, gateway) in [("-4", GATEWAYS[0]), ("-6", GATEWAYS[1])] {
            run(&format!("ip {family} route add default via {gateway}"));
            // Every address is the other machine's.
            run(&format!("{there} {family} route add local default dev lo table main"));
        }
        let world = Self { heard: Arc::default(), holder };
        world.listen(locations, None);
        let namespace = File::open(world.holder.namespace()).expect("it is there");
        world.listen(locations, Some(namespace));
        world
    }

    /// Listens in this namespace, or in another one.
    fn listen(&self, locations: &[String], namespace: Option<File>) {
        let (heard, locations) = (Arc::clone(&self.heard), locations.to_vec());
        let (tell, told) = mpsc::channel();
        // A namespace is a thread's own, and the sockets stay where they were made.
        std::thread::spawn(move || {
            if let Some(namespace) = &namespace {
                let network = Some(LinkNameSpaceType::Network);
                rustix::thread::move_into_link_name_space(namespace.as_fd(), network).expect(NEEDS);
                let names = UdpSocket::bind(NAME_SERVER).expect("nobody else listens here");
                std::thread::spawn(move || tell_names(&names));
            }
            for port in [80, 443] {
                let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
                let listener = TcpListener::bind(address).expect("nobody else listens here");
                let (heard, locations) = (Arc::clone(&heard), locations.clone());
                std::thread::spawn(move || take(&listener, &heard, &locations));
            }
            tell.send(()).expect("it is waited for");
        });
        told.recv().expect("somebody listens");
    }

    /// Takes what was heard since the last time. Connections are taken in the order in which they came, so whatever was
    /// made before these last ones is among them.
    pub(super) fn take_heard(&self) -> Vec<Heard> {
        let mut fences = Vec::new();
        for host in [FENCE, "127.77.77.77"] {
            for port in [80, 443] {
                let fence: SocketAddr = format!("{host}:{port}").parse().expect("an address");
                drop(TcpStream::connect_timeout(&fence, DEADLINE).expect("every address answers"));
                fences.push((fence.ip(), port));
            }
        }
        let until = Instant::now() + DEADLINE;
        loop {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            if fences.iter().all(|fence| heard.contains(fence)) {
                let mut all = std::mem::take(&mut *heard);
                all.retain(|one| !fences.contains(one));
                return all;
            }
            drop(heard);
            assert!(Instant::now() < until, "the sockets do not tell");
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// Notes each connection, and answers: a redirect for `/to/NUMBER`, else a word.
fn take(listener: &TcpListener, heard: &Mutex<Vec<Heard>>, locations: &[String]) {
    for mut stream in listener.incoming().flatten() {
        let here = stream.local_addr().expect("it is connected");
        heard.lock().unwrap_or_else(PoisonError::into_inner).push((here.ip().to_canonical(), here.port()));
        // Nobody is waited for who says nothing or something else than HTTP.
        drop(answer(&mut stream, locations));
    }
}

fn answer(stream: &mut TcpStream, locations: &[String]) -> std::io::Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    while !request.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut piece)?;
        if count == 0 || (request.is_empty() && !piece[0].is_ascii_uppercase()) {
            return Ok(());
        }
        request.extend_from_slice(&piece[..count]);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default();
    let number = path.strip_prefix("/to/").and_then(|number| number.parse::<usize>().ok());
    let location = number.and_then(|number| locations.get(number));
    let (status, head) = match location {
        Some(location) => ("302 Found", format!("location: {location}\r\n")),
        None => ("200 OK", String::new()),
    };
    let text = format!("HTTP/1.1 {status}\r\n{head}connection: close\r\ncontent-length: 5\r\n\r\nhello");
    stream.write_all(text.as_bytes())
}

/// Answers questions for addresses; what is no question is left alone.
fn tell_names(socket: &UdpSocket) {
    let mut asked = BTreeMap::new();
    let mut question = [0; 512];
    while let Ok((count, from)) = socket.recv_from(&mut question) {
        if let Some(answer) = answer_to(&question[..count], &mut asked) {
            // Who does not hear it asks again.
            drop(socket.send_to(&answer, from));
        }
    }
}

/// Writes the answer to a question (RFC 1035, section 4).
fn answer_to(question: &[u8], asked: &mut BTreeMap<String, usize>) -> Option<Vec<u8>> {
    const A: u16 = 1;
    const AAAA: u16 = 28;
    let (mut at, mut labels) = (12, Vec::new());
    while let length @ 1.. = usize::from(*question.get(at)?) {
        labels.push(String::from_utf8_lossy(question.get(at + 1..=at + length)?).to_ascii_lowercase());
        at += 1 + length;
    }
    let name = labels.join(".");
    let kind = u16::from_be_bytes([*question.get(at + 1)?, *question.get(at + 2)?]);
    let answers =
        NAMES.iter().chain(MORE_NAMES).find(|(known, _)| *known == name).map(|(_, answers)| answers);
    // Both kinds are asked for at each look; those for the first kind are counted.
    let count = asked.entry(name).or_default();
    let addresses = answers.map(|answers| answers[(*count).min(answers.len() - 1)]);
    *count += usize::from(kind == A);
    let addresses = addresses.into_iter().flatten().map(|text| text.parse::<IpAddr>().expect("an address"));
    let records: Vec<Vec<u8>> = addresses
        .filter_map(|address| match address {
            IpAddr::V4(address) if kind == A => Some(address.octets().to_vec()),
            IpAddr::V6(address) if kind == AAAA => Some(address.octets().to_vec()),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        })
        .collect();
    let code = if answers.is_some() { 0x80 } else { 0x83 };
    let mut answer = vec![question[0], question[1], 0x81, code, 0, 1, 0, u8::try_from(records.len()).ok()?];
    answer.extend_from_slice(&[0; 4]);
    answer.extend_from_slice(question.get(12..at + 5)?);
    for record in records {
        // The name of the question, its kind, the internet, good for no time at all.
        answer.extend_from_slice(&[0xc0, 12]);
        answer.extend_from_slice(&kind.to_be_bytes());
        answer.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, u8::try_from(record.len()).ok()?]);
        answer.extend_from_slice(&record);
    }
    Some(answer)
}
