//! The input of each workload: the same in every run.

use super::world::World;

/// Numbers that look random (xorshift).
struct Numbers(u64);

impl Numbers {
    fn seeded(seed: u64) -> Numbers {
        Numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.next() >> 32) as u8).collect()
    }
}

const ETHERNET_IPV4: u16 = 0x0800;
const ETHERNET_IPV6: u16 = 0x86DD;
const TCP: u8 = 6;
const UDP: u8 = 17;

fn ethernet(kind: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(kind.to_be_bytes());
    frame
}

/// Ethernet and IPv4 around `rest`.
fn ipv4(protocol: u8, source: [u8; 4], rest: &[u8]) -> Vec<u8> {
    let mut frame = ethernet(ETHERNET_IPV4);
    frame.extend([0x45, 0]);
    frame.extend((20 + rest.len() as u16).to_be_bytes());
    frame.extend([0, 1, 0, 0, 64, protocol, 0x12, 0x34]);
    frame.extend(source);
    frame.extend([192, 0, 2, 1]);
    frame.extend(rest);
    frame
}

fn udp(source: u16, destination: u16, data: usize) -> Vec<u8> {
    let mut datagram = Vec::new();
    for field in [source, destination, 8 + data as u16, 0] {
        datagram.extend(field.to_be_bytes());
    }
    datagram.resize(8 + data, 0);
    datagram
}

/// Ethernet and IPv6 with extension headers, each with its type and its units of eight bytes, and `transport` behind them.
fn ipv6(source: u8, extensions: &[(u8, u8)], transport: u8, rest: &[u8]) -> Vec<u8> {
    let types = || extensions.iter().map(|extension| extension.0).chain([transport]);
    let mut behind = Vec::new();
    for (&(_, units), next) in extensions.iter().zip(types().skip(1)) {
        behind.extend([next, units - 1]);
        behind.resize(behind.len() + 8 * usize::from(units) - 2, 0);
    }
    behind.extend(rest);
    let mut frame = ethernet(ETHERNET_IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend((behind.len() as u16).to_be_bytes());
    frame.extend([types().next().unwrap_or(transport), 64]);
    let mut address = [0; 16];
    address[..2].copy_from_slice(&[source, 1]);
    frame.extend(address);
    frame.extend([0x20, 1, 0xD, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    frame.extend(behind);
    frame
}

/// `process_md_t` of a process that is created, and nothing in it but the command line.
fn process(world: &mut World, command: &str) {
    let units = utf16(command);
    let start = world.place(&units);
    let mut context = [0; 144];
    context[..8].copy_from_slice(&start.to_le_bytes());
    context[8..16].copy_from_slice(&(start + units.len() as u64).to_le_bytes());
    context[16..24].copy_from_slice(&4242_u64.to_le_bytes());
    context[24..32].copy_from_slice(&1_u64.to_le_bytes());
    world.context(&context);
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// Datagrams to listed and other ports, and a packet of TCP.
pub fn udp_drop(world: &mut World) {
    for port in [53_u16, 123, 161, 1900, 5353] {
        world.insert("ports", &port.to_be_bytes(), &1_u32.to_le_bytes());
    }
    world.frame(&ipv4(UDP, [10, 0, 0, 1], &udp(4000, 53, 32)));
    world.frame(&ipv4(UDP, [10, 0, 0, 2], &udp(4001, 443, 32)));
    world.frame(&ipv4(UDP, [10, 0, 0, 3], &udp(4002, 1900, 32)));
    world.frame(&ipv4(TCP, [10, 0, 0, 4], &[0; 20]));
}

/// 128 bytes whose sum is right.
pub fn checksum(world: &mut World) {
    let mut packet = Numbers::seeded(1).bytes(128);
    packet[..2].fill(0);
    let words = packet
        .chunks_exact(2)
        .map(|word| u32::from(u16::from_le_bytes([word[0], word[1]])));
    let mut sum: u32 = words.sum();
    sum = (sum & 0xFFFF) + (sum >> 16);
    sum = (sum & 0xFFFF) + (sum >> 16);
    packet[..2].copy_from_slice(&(!(sum as u16)).to_le_bytes());
    world.frame(&packet);
}

/// Eight connections.
pub fn load_balancer(world: &mut World) {
    let mut numbers = Numbers::seeded(2);
    for index in 0..8_u32 {
        let mut server = vec![10, 1, 0, index as u8];
        server.extend([2, 0, 0, 1, 0, index as u8, 0, 0]);
        world.insert("servers", &index.to_le_bytes(), &server);
    }
    for index in 0..8 {
        let protocol = if index % 3 == 0 { UDP } else { TCP };
        let source = numbers.bytes(4);
        let ports = numbers.bytes(20);
        world.frame(&ipv4(protocol, [source[0], source[1], source[2], source[3]], &ports));
    }
}

/// 201 bytes before the one that is looked for.
pub fn byte_scan(world: &mut World) {
    let mut packet = vec![b'x'; 256];
    packet[201] = b'\n';
    world.frame(&packet);
}

/// The first packets of connections as three systems send them.
pub fn tcp_options(world: &mut World) {
    let linux: &[u8] = &[2, 4, 5, 0xB4, 4, 2, 8, 10, 0, 1, 2, 3, 0, 0, 0, 0, 1, 3, 3, 7];
    let windows: &[u8] = &[2, 4, 5, 0x14, 1, 3, 3, 8, 1, 1, 4, 2];
    let data: &[u8] = &[1, 1, 8, 10, 0, 9, 8, 7, 0, 1, 2, 3];
    for options in [linux, windows, data] {
        let mut segment = vec![0; 20];
        segment[12] = (5 + options.len() as u8 / 4) << 4;
        segment.extend(options);
        world.frame(&ipv4(TCP, [10, 0, 0, 1], &segment));
    }
}

/// No packet to speak of.
pub fn arithmetic(world: &mut World) {
    world.frame(&[0; 64]);
}

/// Numbers in four orders.
pub fn sort(world: &mut World) {
    for seed in 3..7 {
        let packet = Numbers::seeded(seed).bytes(64);
        world.frame(&packet);
    }
}

/// No packet to speak of.
pub fn helpers(world: &mut World) {
    for key in 0..8_u32 {
        world.insert("seen", &key.to_le_bytes(), &0_u64.to_le_bytes());
    }
    world.frame(&[0; 64]);
}

/// Two packets of numbers.
pub fn local_calls(world: &mut World) {
    for seed in 7..9 {
        world.frame(&Numbers::seeded(seed).bytes(64));
    }
}

/// Lines as clients send them, and one that ends too early.
pub fn state_machine(world: &mut World) {
    world.frame(b"GET /index.html HTTP/1.1\r\nHost: example.org\r\n\r\n");
    world.frame(b"POST /api/v2/accounts/1234/messages/56789/attachments HTTP/1.1\r\nHost: example.org\r\n\r\n");
    world.frame(b"DELETE /nothing/behind/this/path\r\n");
}

/// A short packet and a long one.
pub fn histogram(world: &mut World) {
    world.frame(&Numbers::seeded(10).bytes(40));
    world.frame(&Numbers::seeded(11).bytes(400));
}

/// A path that the last of four folders holds.
pub fn path_match(world: &mut World) {
    for (index, path) in (0_u32..).zip([
        "c:\\windows\\temp\\",
        "c:\\program data\\",
        "d:\\",
        "c:\\users\\public\\",
    ]) {
        let mut folder = vec![path.len() as u8, 0, 0, 0];
        folder.extend(utf16(path));
        folder.resize(4 + 2 * 24, 0);
        world.insert("folders", &index.to_le_bytes(), &folder);
    }
    world.image_path(&utf16("C:\\Users\\Public\\Downloads\\Setup.exe"));
    process(world, "setup.exe /quiet");
}

/// Three sources with buckets, one of them small, and one without.
pub fn token_bucket(world: &mut World) {
    for (last, rate, burst) in [
        (1, 125_000_000_u64, 1_000_000_u64),
        (2, 1_250_000, 100_000),
        (3, 40_000, 900),
    ] {
        let fields = [burst, 999_000_000, rate, burst, 0];
        let bucket: Vec<u8> = fields.iter().flat_map(|field| field.to_le_bytes()).collect();
        world.insert("buckets", &[10, 0, 0, last], &bucket);
    }
    for last in 1..5 {
        world.frame(&ipv4(UDP, [10, 0, 0, last], &udp(1, 2, 972)));
    }
}

/// With no, two and five extension headers.
pub fn ipv6_walk(world: &mut World) {
    world.frame(&ipv6(0x20, &[], UDP, &udp(1, 2, 16)));
    world.frame(&ipv6(0xFD, &[(0, 1), (60, 2)], TCP, &[0; 20]));
    world.frame(&ipv6(0x20, &[(0, 1), (60, 1), (43, 3), (60, 2), (0, 1)], 58, &[0; 8]));
}

/// IPv4 and IPv6, listed ports and others, and a header that is cut short.
pub fn udp_filter(world: &mut World) {
    world.insert("blocked_ports", &53_u16.to_be_bytes(), &[1]);
    world.insert("blocked_ports", &1900_u16.to_be_bytes(), &[3]);
    world.frame(&ipv4(UDP, [10, 0, 0, 1], &udp(4000, 443, 32)));
    world.frame(&ipv4(UDP, [10, 0, 0, 2], &udp(4001, 53, 32)));
    world.frame(&ipv4(TCP, [10, 0, 0, 3], &[0; 20]));
    world.frame(&ipv6(0x20, &[(0, 1)], UDP, &udp(1900, 5000, 16)));
    world.frame(&ipv6(0x20, &[], UDP, &udp(5000, 5001, 16)));
}

/// A server that asks for its port, gets it and gives it back, and another program that asks for it.
pub fn bind_policy(world: &mut World) {
    const PORT: u16 = 443;
    let [high, low] = PORT.to_be_bytes();
    let mut owner = utf16("nginx.exe");
    owner.resize(32, 0);
    world.insert("reserved_ports", &[high, low, TCP, 0], &owner);
    for (name, operation) in [("Nginx.exe", 0), ("Nginx.exe", 1), ("Nginx.exe", 2), ("other.exe", 0)] {
        let units = utf16(name);
        let start = world.place(&units);
        let mut context = [0; 56];
        context[..8].copy_from_slice(&start.to_le_bytes());
        context[8..16].copy_from_slice(&(start + units.len() as u64).to_le_bytes());
        context[16..24].copy_from_slice(&4242_u64.to_le_bytes());
        context[24..28].copy_from_slice(&[2, 0, high, low]);
        context[40] = 16;
        context[44] = operation;
        context[48] = TCP;
        world.context(&context);
    }
}

/// One process that may start, and one with an argument that is denied.
pub fn process_guard(world: &mut World) {
    const SEED: u64 = 0x9E37_79B9_7F4A_7C15;
    let hash = |text: &str| {
        let units = text.encode_utf16();
        units.fold(SEED, |hash, unit| (hash ^ u64::from(unit)).wrapping_mul(0x0100_0193))
    };
    for (list, name) in [
        ("denied_images", "mimikatz.exe"),
        ("denied_arguments", "-encodedcommand"),
        ("denied_arguments", "-enc"),
    ] {
        world.insert(list, &hash(name).to_le_bytes(), &[1, 0, 0, 0, 0, 0, 0, 0]);
    }
    world.image_path(&utf16(
        "\\Device\\HarddiskVolume3\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell.exe",
    ));
    process(world, "powershell.exe -NoProfile -File C:\\scripts\\update.ps1");
    process(world, "powershell.exe -NoProfile -EncodedCommand SQBFAFgA");
}

/// Queries for a name that is listed, in other letters, for one that is not, and one that ends too early.
pub fn dns_name(world: &mut World) {
    fn labels(name: &str) -> Vec<u8> {
        let labels = name
            .split('.')
            .flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
        labels.collect()
    }
    let hash = labels("ads.example.net")
        .iter()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
        });
    world.insert("names", &hash.to_le_bytes(), &1_u32.to_le_bytes());
    for (name, end) in [("Ads.EXAMPLE.net", 1), ("www.rust-lang.org", 1), ("a.cut.short", 0)] {
        let mut datagram = udp(4000, 53, 0);
        datagram.extend([0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        datagram.extend(labels(name));
        datagram.extend(&[0, 0, 1, 0, 1][..5 * end]);
        world.frame(&ipv4(UDP, [10, 0, 0, 1], &datagram));
    }
}

/// Ports of all kinds.
pub fn port_policy(world: &mut World) {
    for (protocol, port) in [
        (TCP, 443),
        (TCP, 22),
        (UDP, 53),
        (TCP, 445),
        (UDP, 40_000),
        (TCP, 8080),
        (TCP, 993),
        (1, 0),
    ] {
        world.frame(&ipv4(protocol, [10, 0, 0, 1], &udp(50_000, port, 12)));
    }
}

/// Eight flows.
pub fn flow_hash(world: &mut World) {
    let mut numbers = Numbers::seeded(12);
    for _ in 0..8 {
        let source = numbers.bytes(4);
        let ports = numbers.bytes(20);
        world.frame(&ipv4(UDP, [source[0], source[1], source[2], source[3]], &ports));
    }
}

/// Two services, one of them without a checksum, and one that is not there.
pub fn nat_rewrite(world: &mut World) {
    for port in [53_u16, 123] {
        let mut service = vec![192, 0, 2, 1];
        service.extend(port.to_be_bytes());
        service.extend([UDP, 0]);
        let mut target = vec![10, 9, 8, 7];
        target.extend((port + 5000).to_be_bytes());
        target.extend([2, 0, 0, 1, 0, 9]);
        world.insert("targets", &service, &target);
    }
    for (port, checksum) in [(53, [0x12, 0x34]), (123, [0, 0]), (80, [0, 1])] {
        let mut datagram = udp(4000, port, 32);
        datagram[6..8].copy_from_slice(&checksum);
        world.frame(&ipv4(UDP, [10, 0, 0, 1], &datagram));
    }
}

/// A filter for datagrams to some ports.
pub fn packet_vm(world: &mut World) {
    const PROGRAM: &[(u8, u8, u8, u32)] = &[
        (2, 0, 0, 12),     // half of the type
        (7, 0, 16, 0x800), // IPv4?
        (1, 0, 0, 23),     // protocol
        (7, 0, 14, 17),    // UDP?
        (1, 0, 0, 14),     // length of the header
        (4, 0, 0, 15),
        (10, 0, 0, 0),
        (6, 0, 0, 0),
        (6, 0, 0, 0),
        (9, 0, 0, 0),
        (2, 0, 0, 36), // destination
        (7, 4, 0, 53),
        (7, 3, 0, 123),
        (8, 0, 3, 4999),
        (8, 2, 0, 5999),
        (0, 0, 0, 1),
        (0, 0, 0, 1),
        (0, 0, 0, 0),
        (0, 0, 0, 0),
    ];
    for (index, &(operation, yes, no, value)) in (0_u32..).zip(PROGRAM) {
        let mut entry = vec![operation, yes, no, 0];
        entry.extend(value.to_le_bytes());
        world.insert("filter", &index.to_le_bytes(), &entry);
    }
    for port in [53, 5353, 443] {
        world.frame(&ipv4(UDP, [10, 0, 0, 1], &udp(4000, port, 32)));
    }
}

/// Two packets of numbers.
pub fn siphash(world: &mut World) {
    for seed in 13..15 {
        world.frame(&Numbers::seeded(seed).bytes(56));
    }
}

/// Addresses in a table of ranges, and between them.
pub fn prefix_search(world: &mut World) {
    for index in 0..1024_u32 {
        let first = index << 22;
        let fields = [first, first + (1 << 21), index & 1];
        let range: Vec<u8> = fields.iter().flat_map(|field| field.to_le_bytes()).collect();
        world.insert("ranges", &index.to_le_bytes(), &range);
    }
    let mut numbers = Numbers::seeded(15);
    for _ in 0..8 {
        let source = numbers.bytes(4);
        world.frame(&ipv4(UDP, [source[0], source[1], source[2], source[3]], &[0; 20]));
    }
}

/// IPv4, IPv6 and something else.
pub fn event_log(world: &mut World) {
    world.frame(&ipv4(UDP, [10, 0, 0, 1], &udp(4000, 443, 64)));
    world.frame(&ipv6(0x20, &[], UDP, &udp(1900, 5000, 64)));
    let mut frame = ethernet(0x0806);
    frame.resize(100, 1);
    world.frame(&frame);
}

/// Two packets of numbers.
pub fn bit_counts(world: &mut World) {
    for seed in 16..18 {
        world.frame(&Numbers::seeded(seed).bytes(48));
    }
}

/// Samples around 300, and some that are none.
pub fn smoothing(world: &mut World) {
    let mut numbers = Numbers::seeded(18);
    world.insert("estimates", &[0; 4], &[0; 24]);
    for _ in 0..2 {
        let samples = (0..24).flat_map(|_| {
            let sample = (numbers.next() >> 50) as i16 % 256 + 300;
            (if sample % 7 == 0 { -1 } else { sample }).to_le_bytes()
        });
        let packet: Vec<u8> = samples.collect();
        world.frame(&packet);
    }
}

/// Two connections that are made and go away again, over IPv4 and IPv6.
pub fn flow_log(world: &mut World) {
    const INET: u8 = 2;
    const INET6: u8 = 23;
    for (operation, family, flow) in [(0, INET, 7), (1, INET6, 8), (2, INET, 7), (2, INET6, 8)] {
        let mut context = [0; 64];
        context[0] = operation;
        context[4] = family;
        context[8..24].copy_from_slice(&[10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        context[24..26].copy_from_slice(&50_000_u16.to_be_bytes());
        context[28..44].copy_from_slice(&[192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        context[44..46].copy_from_slice(&443_u16.to_be_bytes());
        context[48] = TCP;
        world.context(&context);
        world.before_context(flow);
    }
}

/// A connection that is redirected, one that is let through by a rule for all ports, one without a rule, and a datagram.
pub fn connect_redirect4(world: &mut World) {
    let endpoint = |address: [u8; 4], port: u16| {
        let mut endpoint = [0; 20];
        endpoint[..4].copy_from_slice(&address);
        endpoint[16..18].copy_from_slice(&port.to_be_bytes());
        endpoint
    };
    let rule = |action: u32, to: [u8; 20]| [action.to_le_bytes().as_slice(), &to].concat();
    world.insert(
        "rules4",
        &endpoint([192, 0, 2, 1], 443),
        &rule(1, endpoint([127, 0, 0, 1], 8443)),
    );
    world.insert("rules4", &endpoint([192, 0, 2, 2], 0), &rule(0, endpoint([0; 4], 0)));
    for (address, port, protocol) in [(1, 443, TCP), (2, 80, TCP), (3, 80, TCP), (1, 443, UDP)] {
        let mut context = [0; 64];
        context[0] = 2;
        context[24..28].copy_from_slice(&[192, 0, 2, address]);
        context[40..42].copy_from_slice(&u16::to_be_bytes(port));
        context[44] = protocol;
        world.context(&context);
    }
}

/// Two echo requests, a datagram, and a packet that is cut.
pub fn stage_ipv4(world: &mut World) {
    const ICMP: u8 = 1;
    for length in [8_usize, 64] {
        let mut request = vec![0; length];
        request[..4].copy_from_slice(&[8, 0, 0x12, 0x34]);
        world.frame(&ipv4(ICMP, [10, 0, 0, 1], &request));
    }
    world.frame(&ipv4(UDP, [10, 0, 0, 1], &udp(4000, 443, 32)));
    world.frame(&ipv4(ICMP, [10, 0, 0, 1], &[8, 0, 0]));
}
