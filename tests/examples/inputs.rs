//! The sample inputs beside the examples, and the contexts that tests run programs on.
//!
//! Offsets are those of the providers' context structures, written out here a second time: the C headers check theirs
//! when they are compiled, and both must agree for a program to see what a test meant.

use libtest_mimic::{Failed, Trial};

use super::EXAMPLES;
use crate::packets::{self, udp4, utf16};
use crate::support::{root, test};

/// Builds a context: bytes at their offsets, zero elsewhere.
pub struct Context(Vec<u8>);

impl Context {
    fn new(size: usize) -> Self {
        Context(vec![0; size])
    }

    fn with(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// `bind_md_t`: process 1000 binds, has bound or gives back (`operation`) a port of any IPv4 address.
pub fn bind(operation: u32, protocol: u8, port: u16) -> Context {
    Context::new(56)
        .with(16, &1000u64.to_le_bytes())
        .with(24, &2u16.to_le_bytes())
        .with(26, &port.to_be_bytes())
        .with(40, &[16])
        .with(44, &operation.to_le_bytes())
        .with(48, &[protocol])
}

/// `bpf_sock_addr_t`: a connection to an address of 4 or 16 bytes.
pub fn connect(protocol: u8, address: &[u8], port: u16) -> Context {
    let family: u32 = if address.len() == 4 { 2 } else { 23 };
    Context::new(64)
        .with(0, &family.to_le_bytes())
        .with(24, address)
        .with(40, &port.to_be_bytes())
        .with(44, &u32::from(protocol).to_le_bytes())
}

/// `bpf_sock_ops_t`: something happened to a connection between two addresses of 4 or 16 bytes.
pub fn sock_ops(op: u32, protocol: u8, local: (&[u8], u16), remote: (&[u8], u16)) -> Context {
    let family: u32 = if local.0.len() == 4 { 2 } else { 23 };
    Context::new(64)
        .with(0, &op.to_le_bytes())
        .with(4, &family.to_le_bytes())
        .with(8, local.0)
        .with(24, &local.1.to_be_bytes())
        .with(28, remote.0)
        .with(44, &remote.1.to_be_bytes())
        .with(48, &[protocol])
}

/// `process_md_t`: process 5000, child of 4000, starts (`operation` 0), or ended with a code (`operation` 1).
pub fn process(operation: u8, exit_code: u32) -> Context {
    Context::new(144)
        .with(16, &5000u64.to_le_bytes())
        .with(24, &4000u64.to_le_bytes())
        .with(48, &133_500_000_000_000_000u64.to_le_bytes())
        .with(56, &133_500_000_010_000_000u64.to_le_bytes())
        .with(64, &exit_code.to_le_bytes())
        .with(68, &[operation])
}

/// The files beside the examples that their pages run them on.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let echo = packets::icmp(8, 0, [0, 1, 0, 1], b"abcdefghijklmnopqrstuvwxyz");
    let echo = packets::Ipv4 {
        protocol: packets::ICMP,
        payload: &echo,
        ..packets::Ipv4::default()
    };
    let flow = |op| sock_ops(op, packets::TCP, (&packets::CLIENT4, 49152), (&packets::SERVER4, 443)).0;
    vec![
        ("udp_filter/dns.bin", udp4((49152, 53), b"a question")),
        ("bind_policy/bind_https.bin", bind(0, packets::TCP, 443).0),
        ("bind_policy/nginx.bin", utf16("nginx.exe")),
        ("bind_policy/other.bin", utf16("other.exe")),
        (
            "connect_redirect/connect4.bin",
            connect(packets::TCP, &packets::SERVER4, 443).0,
        ),
        (
            "connect_redirect/connect6.bin",
            connect(packets::TCP, &packets::SERVER6, 443).0,
        ),
        ("flow_log/established.bin", flow(0)),
        ("flow_log/deleted.bin", flow(2)),
        (
            "tail_dispatch/echo.bin",
            packets::ethernet(packets::IPV4, &echo.bytes()),
        ),
        (
            "tail_dispatch/arp.bin",
            packets::ethernet(packets::ARP, &packets::arp(1)),
        ),
        ("process_guard/create.bin", process(0, 0).0),
        (
            "process_guard/encoded.bin",
            utf16("powershell.exe -EncodedCommand ZABpAHIA"),
        ),
        ("process_guard/harmless.bin", utf16("powershell.exe -Version")),
    ]
}

pub fn trials() -> Vec<Trial> {
    vec![test("examples::sample_inputs_are_what_they_are_called", || {
        for (file, wanted) in samples() {
            let path = root().join("examples").join(file);
            if std::env::var_os("BLESS").is_some() {
                std::fs::write(&path, &wanted)?;
            }
            if std::fs::read(&path)? != wanted {
                return Err(format!("{file} differs; BLESS=1 writes it").into());
            }
        }
        unknown_samples()
    })]
}

/// Fails if an example has a sample that [`samples`] does not make.
fn unknown_samples() -> Result<(), Failed> {
    for example in EXAMPLES {
        for file in std::fs::read_dir(root().join("examples").join(example))? {
            let path = file?.path();
            let is_sample = path.extension().is_some_and(|extension| extension == "bin");
            if is_sample && !samples().iter().any(|(file, _)| path.ends_with(file)) {
                return Err(format!("nothing makes {}", path.display()).into());
            }
        }
    }
    Ok(())
}
