//! `bpf2sys run` as people use it: captures in and out, contexts and maps by name, events, pinned maps, and what goes wrong.

use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::support::{Need, output, root, succeed, test, test_with, tool};

pub fn trials() -> Vec<Trial> {
    vec![
        test("runs::packets_of_all_kinds_of_files_are_run", all_kinds_of_files),
        test_with(
            "runs::a_written_capture_tells_what_became_of_each_packet",
            &[Need::Program("tshark")],
            written_capture,
        ),
        test_with(
            "runs::answers_of_the_example_are_right_by_wireshark",
            &[Need::Program("tshark")],
            answers,
        ),
        test("runs::a_capture_that_is_cut_off_is_run_up_to_there", cut_off),
        test("runs::a_file_that_cannot_be_written_is_told_before_the_run", unwritable),
        test("runs::the_clock_follows_the_capture", clock),
        test("runs::many_results_are_counted", counted),
        test("runs::contexts_are_given_and_told_by_name", contexts),
        test("runs::several_programs_share_an_attach_point", several_programs),
        test("runs::what_is_dumped_can_be_loaded", dump_and_load),
        test("runs::pinned_maps_stay_in_their_folder", pinned),
        test("runs::events_are_lines_of_json", events),
        test("runs::without_a_reader_rings_run_full", unread),
        test("runs::types_come_from_the_object_of_the_driver_alone", types),
        test("runs::instructions_are_counted", instructions),
        test("runs::time_is_taken_of_native_code", time),
        test("runs::what_goes_wrong_is_told", mishaps),
        test("runs::providers_come_and_go", providers),
        test("runs::the_machine_is_as_asked_for", machine),
    ]
}

/// A folder with the driver of an example and, as people have it, the object beside it.
struct Folder {
    folder: tempfile::TempDir,
    driver: String,
}

impl Folder {
    fn of(example: &str) -> Result<Folder, Failed> {
        Folder::of_object(&format!("examples/{example}/{example}.o"))
    }

    fn of_object(object: &str) -> Result<Folder, Failed> {
        let folder = tempfile::tempdir()?;
        let object = root().join(object);
        let name = object.file_name().ok_or("an object without a name")?;
        std::fs::copy(&object, folder.path().join(name))?;
        let driver = Path::new(name).with_extension("sys").to_string_lossy().into_owned();
        succeed(
            tool()
                .arg("build")
                .arg("--quiet")
                .arg(name)
                .args(["-o", &driver])
                .current_dir(&folder),
        )?;
        Ok(Folder { folder, driver })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Result<(), Failed> {
        Ok(std::fs::write(self.path(name), text)?)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = tool();
        command
            .arg("run")
            .arg(&self.driver)
            .args(arguments)
            .current_dir(&self.folder);
        command
    }

    /// What a run prints.
    fn run(&self, arguments: &[&str]) -> Result<String, Failed> {
        succeed(&mut self.command(arguments))
    }

    fn json(&self, arguments: &[&str]) -> Result<Value, Failed> {
        let text = succeed(self.command(arguments).arg("--json"))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// What a run that fails prints to both outputs.
    fn fails(&self, status: i32, arguments: &[&str]) -> Result<(String, String), Failed> {
        let out = output(&mut self.command(arguments))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if out.status.code() != Some(status) {
            return Err(format!("{}: {}", out.status, text(&out.stderr)).into());
        }
        Ok((text(&out.stdout), text(&out.stderr)))
    }
}

/// The frames of an example's capture, which public tools made.
fn traffic() -> PathBuf {
    root().join("examples/udp_filter/traffic.pcapng")
}

const DNS_IS_BLOCKED: &str = r#"{"blocked_ports": {"hex:0035": 3}}"#;

fn udp_filter() -> Result<Folder, Failed> {
    let folder = Folder::of("udp_filter")?;
    std::fs::copy(traffic(), folder.path("traffic.pcapng"))?;
    std::fs::copy(root().join("examples/udp_filter/dns.bin"), folder.path("dns.bin"))?;
    folder.write("blocked.json", DNS_IS_BLOCKED)?;
    Ok(folder)
}

fn all_kinds_of_files() -> Result<(), Failed> {
    let folder = udp_filter()?;
    let bytes = std::fs::read(folder.path("dns.bin"))?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x} ")).collect();
    folder.write("dns.hex", format!("# a question\n{digits}\n"))?;
    let arguments = [
        "--packet",
        "traffic.pcapng",
        "--packet",
        "dns.bin",
        "--packet",
        "dns.hex",
    ];
    let inline = format!("hex:{digits}");
    let text = folder.run(
        &[
            &arguments[..],
            &["--packet", &inline, "--load-maps", "blocked.json", "--changes"],
        ]
        .concat(),
    )?;
    let expected = "\
1: udp_filter: 1 (XDP_PASS)
2: udp_filter: 2 (XDP_DROP)
3: udp_filter: 2 (XDP_DROP)
4: udp_filter: 2 (XDP_DROP)
5: udp_filter: 1 (XDP_PASS)
udp_filter: 2 (XDP_DROP)
1: udp_filter: 2 (XDP_DROP)
udp_filter: 2 (XDP_DROP)
counters[0]: 0 -> 2
counters[2]: 0 -> 5
counters[3]: 0 -> 1
";
    equal(&text, expected)
}

fn equal(found: &str, expected: &str) -> Result<(), Failed> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("prints\n{found}and not\n{expected}").into())
    }
}

fn written_capture() -> Result<(), Failed> {
    let folder = udp_filter()?;
    folder.run(&[
        "--packet",
        "traffic.pcapng",
        "--load-maps",
        "blocked.json",
        "--write-pcap",
        "judged.pcapng",
    ])?;
    let fields = |file: &str, fields: &[&str]| wireshark(&folder, &["-r", file], fields);
    let judged = fields("judged.pcapng", &["frame.interface_name", "frame.comment"])?;
    let expected = [
        ("passed", "PASS"),
        ("dropped", "DROP"),
        ("dropped", "DROP"),
        ("dropped", "DROP"),
        ("passed", "PASS"),
    ];
    let expected: String = expected
        .iter()
        .map(|(interface, verdict)| format!("{interface}\tudp_filter: XDP_{verdict}\n"))
        .collect();
    equal(&judged, &expected)?;
    let same = [
        "frame.time_epoch",
        "frame.len",
        "eth.src",
        "ip.src",
        "ipv6.src",
        "udp.checksum",
        "tcp.srcport",
    ];
    equal(&fields("judged.pcapng", &same)?, &fields("traffic.pcapng", &same)?)
}

/// What Wireshark says of the frames of a file, one line for each.
fn wireshark(folder: &Folder, arguments: &[&str], fields: &[&str]) -> Result<String, Failed> {
    let mut tshark = Command::new("tshark");
    tshark
        .current_dir(&folder.folder)
        .args(["-n", "-T", "fields"])
        .args(arguments);
    succeed(tshark.args(fields.iter().flat_map(|field| ["-e", field])))
}

/// A capture of a neighbour's frames: what the program sends back has right checksums, and answers what was asked.
fn answers() -> Result<(), Failed> {
    let folder = Folder::of("tail_dispatch")?;
    let capture = root().join("examples/tail_dispatch/traffic.pcap");
    std::fs::copy(capture, folder.path("traffic.pcap"))?;
    folder.run(&[
        "--program",
        "dispatch",
        "--packet",
        "traffic.pcap",
        "--write-pcap",
        "answered.pcapng",
    ])?;
    let judged = ["-o", "ip.check_checksum:TRUE", "-r", "answered.pcapng", "-Y", "icmp"];
    let shown = wireshark(
        &folder,
        &judged,
        &[
            "frame.interface_name",
            "icmp.type",
            "ip.checksum.status",
            "icmp.checksum.status",
            "eth.dst",
            "ip.dst",
        ],
    )?;
    // 1 is Wireshark's word for right.
    equal(
        &shown,
        &"sent back\t0\t1\t1\t02:00:5e:10:00:01\t198.51.100.1\n".repeat(3),
    )?;
    let asked = ["icmp.ident", "icmp.seq", "data.data"];
    let questions = wireshark(&folder, &["-r", "traffic.pcap", "-Y", "icmp"], &asked)?;
    equal(
        &wireshark(&folder, &["-r", "answered.pcapng", "-Y", "icmp"], &asked)?,
        &questions,
    )
}

fn cut_off() -> Result<(), Failed> {
    let folder = udp_filter()?;
    let whole = std::fs::read(traffic())?;
    folder.write("cut.pcapng", &whole[..whole.len() - 60])?;
    folder.write("old.pcapng", "before")?;
    let arguments = ["--packet", "cut.pcapng", "--write-pcap", "old.pcapng"];
    let (told, error) = folder.fails(3, &arguments)?;
    if told.lines().count() != 4 || !told.starts_with("1: udp_filter: 1 (XDP_PASS)\n") {
        return Err(format!("prints {told}").into());
    }
    if !error.contains("BPF5014") || !error.contains("packet 5") {
        return Err(error.into());
    }
    // What was there is not lost.
    equal(&std::fs::read_to_string(folder.path("old.pcapng"))?, "before")
}

fn unwritable() -> Result<(), Failed> {
    let folder = udp_filter()?;
    let capture = ["--packet", "dns.bin", "--write-pcap", "none/judged.pcapng"];
    let events = ["--packet", "dns.bin", "--events", "none/events.json"];
    for arguments in [capture, events] {
        let (told, error) = folder.fails(1, &arguments)?;
        if !told.is_empty() || !error.contains("BPF9003") {
            return Err(format!("{told}{error}").into());
        }
    }
    Ok(())
}

/// The two programs that send records say when.
fn clock() -> Result<(), Failed> {
    let folder = Folder::of("tail_dispatch")?;
    let packet = std::fs::read(root().join("examples/tail_dispatch/arp.bin"))?;
    // Three requests, 0.25 seconds apart from one another.
    let mut capture = Vec::new();
    for word in [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 65535, 1] {
        capture.extend(word.to_le_bytes());
    }
    for number in 0..3_u32 {
        for word in [
            1_700_000_000,
            number * 250_000_000,
            packet.len() as u32,
            packet.len() as u32,
        ] {
            capture.extend(word.to_le_bytes());
        }
        capture.extend(&packet);
    }
    folder.write("arp.pcap", capture)?;
    let arguments = [
        "--program",
        "dispatch",
        "--packet",
        "arp.pcap",
        "--boot-time",
        "100",
        "--changes=each",
    ];
    let text = folder.run(&arguments)?;
    let has = |part: &str| {
        if text.contains(part) {
            Ok(())
        } else {
            Err(Failed::from(format!("no {part} in\n{text}")))
        }
    };
    has("since = 100000000000, requests = 1 }")?;
    has("since = 100000000000, requests = 3 }")?;
    // The window of a second begins anew.
    let text = folder.run(&[&arguments[..], &["--packet", "arp.pcap"]].concat())?;
    if !text.contains("requests = 6 }") {
        return Err(text.into());
    }
    Ok(())
}

fn counted() -> Result<(), Failed> {
    let folder = udp_filter()?;
    let arguments = ["--packet", "dns.bin", "--repeat", "30", "--changes"];
    let text = folder.run(&arguments)?;
    let each = "udp_filter: 1 (XDP_PASS)\n";
    let more = "udp_filter: 1 (XDP_PASS), 10 more\ncounters[1]: 0 -> 30\n";
    equal(&text, &(each.repeat(20) + more))?;
    let text = folder.run(&[&arguments[..], &["--each"]].concat())?;
    equal(&text, &(each.repeat(30) + "counters[1]: 0 -> 30\n"))
}

/// A rule by which connections to 198.51.100.7, port 443, go to 127.0.0.1, port 8080.
const TO_PROXY: &str =
    "rules4:c633640700000000000000000000000001bb0000=010000007f0000010000000000000000000000001f900000";

fn contexts() -> Result<(), Failed> {
    let folder = Folder::of("connect_redirect")?;
    let context = r#"{"user_ip4": "198.51.100.7", "user_port": 443, "protocol": "TCP"}"#;
    folder.write("connect.json", context)?;
    let run = |given: &str| {
        folder.run(&[
            "--program",
            "connect_redirect4",
            "--context",
            given,
            "--set-map",
            TO_PROXY,
            "--changes",
        ])
    };
    let text = run("connect.json")?;
    let expected = "connect_redirect4: 1 (BPF_SOCK_ADDR_VERDICT_PROCEED_SOFT)
  user_ip4: \"198.51.100.7\" -> \"127.0.0.1\"
  user_port: 443 -> 8080
";
    if !text.starts_with(expected) {
        return Err(text.into());
    }
    equal(&run(context)?, &text)?;
    let report = folder.json(&[
        "--program",
        "connect_redirect4",
        "--context",
        "connect.json",
        "--set-map",
        TO_PROXY,
    ])?;
    let told = &report["contexts"][0];
    if (&told["user_ip4"], &told["user_port"]) != (&json!("127.0.0.1"), &json!(8080)) {
        return Err(told.to_string().into());
    }
    let (_, error) = folder.fails(
        3,
        &["--program", "connect_redirect4", "--context", r#"{"user_port": 65536}"#],
    )?;
    if !error.contains("BPF5015") || !error.contains("65536") {
        return Err(error.into());
    }
    Ok(())
}

fn several_programs() -> Result<(), Failed> {
    let folder = Folder::of("connect_redirect")?;
    let context = r#"{"user_ip4": "198.51.100.7", "user_port": 443, "protocol": "TCP"}"#;
    let twice = [
        "--program",
        "connect_redirect4",
        "--program",
        "connect_redirect4",
        "--context",
        context,
        "--changes",
    ];
    let text = folder.run(&twice)?;
    let passed = "connect_redirect4: 1 (BPF_SOCK_ADDR_VERDICT_PROCEED_SOFT)\n";
    equal(
        &text,
        &format!("{passed}  {passed}  {passed}counters[0]: [0, 0] -> [2, 0]\n"),
    )?;
    // Who redirects is the last one.
    let text = folder.run(&[&twice[..], &["--set-map", TO_PROXY]].concat())?;
    if !text.starts_with(&format!("{passed}  {passed}  user_ip4: ")) || !text.contains("counters[1]: [0, 0] -> [1, 0]")
    {
        return Err(text.into());
    }
    let other = [
        "--program",
        "connect_redirect4",
        "--program",
        "connect_redirect6",
        "--context",
        context,
    ];
    let (_, error) = folder.fails(6, &other)?;
    if !error.contains("BPF5008") {
        return Err(error.into());
    }
    Ok(())
}

fn dump_and_load() -> Result<(), Failed> {
    let folder = udp_filter()?;
    folder.run(&[
        "--packet",
        "traffic.pcapng",
        "--load-maps",
        "blocked.json",
        "--dump-maps",
        "one.json",
    ])?;
    folder.run(&["--load-maps", "one.json", "--dump-maps", "two.json"])?;
    let read = |name: &str| std::fs::read_to_string(folder.path(name));
    equal(&read("two.json")?, &read("one.json")?)?;
    let dumped: Value = serde_json::from_str(&read("one.json")?)?;
    if dumped["counters"]["entries"][2] != json!({"key": 2, "value": 2}) {
        return Err(dumped.to_string().into());
    }
    let to_output = folder.run(&["--load-maps", "one.json", "--dump-maps", "-"])?;
    equal(&to_output, &read("one.json")?)?;
    folder.write("wrong.json", r#"{"blocked": {}}"#)?;
    let (_, error) = folder.fails(3, &["--load-maps", "wrong.json"])?;
    if !error.contains("BPF5016") || !error.contains("did you mean `blocked_ports`") {
        return Err(error.into());
    }
    Ok(())
}

fn pinned() -> Result<(), Failed> {
    let folder = Folder::of_object("tests/fixtures/contract/kinds.o")?;
    let kept = ["--pins", "pins", "--changes"];
    let first = folder.run(&[&kept[..], &["--program", "frames", "--packet", "hex:010203"]].concat())?;
    let second = folder.run(&[&kept[..], &["--program", "binds", "--context", r#"{"process_id": 40}"#]].concat())?;
    if !first.ends_with("total[0]: 0 -> 3\n") || !second.ends_with("total[0]: 3 -> 43\n") {
        return Err(format!("{first}{second}").into());
    }
    folder.write("pins/total.json", "{}")?;
    let (_, error) = folder.fails(6, &["--program", "frames", "--pins", "pins"])?;
    if !error.contains("BPF5008") && !error.contains("BPF5005") {
        return Err(error.into());
    }
    folder.write("pins/total.json", "nothing")?;
    let (_, error) = folder.fails(3, &["--program", "frames", "--pins", "pins"])?;
    if !error.contains("BPF5016") {
        return Err(error.into());
    }
    Ok(())
}

fn events() -> Result<(), Failed> {
    let folder = Folder::of("flow_log")?;
    let context = r#"[{"op": "active_established", "protocol": "TCP", "local_ip4": "192.0.2.1"}, {"op": "connection_deleted", "protocol": "TCP", "local_ip4": "192.0.2.1"}]"#;
    let arguments = ["--context", context, "--events", "-"];
    let text = folder.run(&arguments)?;
    let lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let [first, second] = &lines[..] else {
        return Err(format!("two records, and not\n{text}").into());
    };
    for (number, line) in [(1, first), (2, second)] {
        if (&line["run"], &line["map"], &line["program"]) != (&json!(number), &json!("events"), &json!("flow_log")) {
            return Err(line.to_string().into());
        }
    }
    if !second["data"].is_string() || first["data"] == second["data"] {
        return Err(text.into());
    }
    let plain = folder.run(&["--context", context, "--events", "events.json", "--changes"])?;
    let kept = std::fs::read_to_string(folder.path("events.json"))?;
    if kept.lines().count() != 2 || !kept.contains("\"data\":\"hex:") || !plain.contains("  events: hex:") {
        return Err(format!("{plain}{kept}").into());
    }
    Ok(())
}

fn unread() -> Result<(), Failed> {
    let folder = Folder::of("flow_log")?;
    let lost = |arguments: &[&str]| -> Result<u64, Failed> {
        let context = r#"{"op": "active_established", "protocol": "TCP", "local_ip4": "192.0.2.1"}"#;
        let arguments = [&["--context", context, "--repeat", "5000"], arguments].concat();
        let report = folder.json(&arguments)?;
        let lost = &report["values"]["totals"]["entries"][0]["value"]["lost"];
        lost.as_u64().ok_or_else(|| format!("{lost} is no number").into())
    };
    if lost(&[])? != 0 || lost(&["--unread"])? == 0 {
        return Err("records are lost if nobody reads them, and only then".into());
    }
    Ok(())
}

fn types() -> Result<(), Failed> {
    let folder = udp_filter()?;
    let typed = "config = { monitor_only = 0, drop_fragments = 0, drop_malformed = 1 }";
    let shows = |arguments: &[&str]| folder.run(arguments).map(|text| text.contains(typed));
    let beside = shows(&[])?;
    // Another object of that name says nothing of this driver.
    std::fs::rename(folder.path("udp_filter.o"), folder.path("mine.o"))?;
    let alone = shows(&[])?;
    std::fs::copy(root().join("examples/flow_log/flow_log.o"), folder.path("udp_filter.o"))?;
    let beside_another = shows(&[])?;
    std::fs::rename(folder.path("mine.o"), folder.path("udp_filter.o"))?;
    std::fs::create_dir(folder.path("kept"))?;
    std::fs::rename(folder.path("udp_filter.o"), folder.path("kept/udp_filter.o"))?;
    let named = shows(&["--types", "kept/udp_filter.o"])?;
    let found = (beside, alone, beside_another, named);
    if found == (true, false, false, true) {
        Ok(())
    } else {
        Err(format!("{found:?}").into())
    }
}

/// A run alone takes what it takes among others, and the longest is found.
fn instructions() -> Result<(), Failed> {
    let folder = udp_filter()?;
    let numbers = |arguments: &[&str]| -> Result<(Vec<u64>, String), Failed> {
        let text = folder.run(&[arguments, &["--instructions", "--changes"]].concat())?;
        let each = text
            .lines()
            .filter_map(|line| line.strip_suffix(" instructions")?.rsplit_once(", "));
        let numbers = each.map(|(_, number)| number.parse()).collect::<Result<_, _>>()?;
        Ok((numbers, text))
    };
    let (all, text) = numbers(&["--packet", "traffic.pcapng"])?;
    let (least, most) = (all.iter().min().ok_or("no runs")?, all.iter().max().ok_or("no runs")?);
    let run = all.iter().position(|number| number == most).ok_or("no run")? + 1;
    let told = format!("instructions: {least} to {most}, ");
    if all.len() != 5
        || least == most
        || !text.contains(&told)
        || !text.contains(&format!("most instructions: run {run} {most}"))
    {
        return Err(text.into());
    }
    let (alone, text) = numbers(&["--packet", "dns.bin", "--repeat", "2"])?;
    if alone.len() != 2 || alone[0] != alone[1] || !all.contains(&alone[0]) {
        return Err(text.into());
    }
    Ok(())
}

fn time() -> Result<(), Failed> {
    let folder = udp_filter()?;
    let arguments = ["--packet", "traffic.pcapng", "--repeat", "50", "--time"];
    let results = folder.json(&arguments)?;
    let results = results["results"].as_array().ok_or("no results")?;
    let times: Vec<u64> = results.iter().filter_map(|result| result["time_ns"].as_u64()).collect();
    // Of some hundred instructions; what else the machine does comes on top.
    let shortest = times.iter().min().ok_or("no times")?;
    assert!(times.len() == 250 && (10..100_000).contains(shortest), "{times:?}");
    let text = folder.run(&arguments)?;
    assert!(
        text.contains("\ntime: ") && text.contains("\nmost time: run "),
        "{text}"
    );
    assert!(text.contains(" (packet 5) "), "{text}");
    let (_, said) = folder.fails(2, &[&arguments[..], &["--instructions"]].concat())?;
    assert!(said.contains("cannot be used with"), "{said}");
    Ok(())
}

fn mishaps() -> Result<(), Failed> {
    let folder = Folder::of("flow_log")?;
    let context = r#"{"op": "active_established", "protocol": "TCP", "local_ip4": "192.0.2.1"}"#;
    let run =
        |arguments: &[&str]| folder.run(&[&["--context", context, "--changes", "--repeat", "3"], arguments].concat());
    let failing = run(&["--fail", "bpf_ringbuf_output@2"])?;
    let told = failing.matches("  failed: bpf_ringbuf_output (call 2)\n").count();
    if told != 1 || failing.matches("  events: ").count() != 2 || !failing.contains("lost = 1") {
        return Err(failing.into());
    }
    for (arguments, lost) in [
        (&["--full", "events"][..], "lost = 3"),
        (&["--fail", "bpf_ringbuf_output"], "lost = 3"),
        (&["--fail", "bpf_ringbuf_output@2..3"], "lost = 2"),
        (&["--fail", "allocation"], "lost = 0"),
    ] {
        let text = run(arguments)?;
        if !text.contains(lost) {
            return Err(format!("{arguments:?}: no {lost} in\n{text}").into());
        }
    }
    if run(&["--fail", "allocation"])?.contains("flows: +") {
        return Err("an entry without memory".into());
    }
    let (_, error) = folder.fails(2, &["--fail", "bpf_ringbuf_output@0"])?;
    let (_, unknown) = folder.fails(6, &["--fail", "bpf_nothing"])?;
    if !error.contains("--fail bpf_ringbuf_output@0") || !unknown.contains("BPF5008") {
        return Err(format!("{error}{unknown}").into());
    }
    Ok(())
}

fn providers() -> Result<(), Failed> {
    let folder = udp_filter()?;
    let arguments = [
        "--packet",
        "traffic.pcapng",
        "--detach",
        "xdp@2",
        "--attach",
        "xdp@4",
        "--changes",
    ];
    let text = folder.run(&arguments)?;
    let away = "udp_filter: not run: the provider of program type xdp is detached\n";
    let expected = format!(
        "1: udp_filter: 1 (XDP_PASS)\n2: {away}3: {away}4: udp_filter: 1 (XDP_PASS)\n5: udp_filter: 1 (XDP_PASS)\n\
         counters[0]: 0 -> 2\ncounters[1]: 0 -> 1\n"
    );
    equal(&text, &expected)?;
    let (_, error) = folder.fails(2, &["--detach", "xdp"])?;
    if !error.contains("PROVIDER@INPUT") {
        return Err(error.into());
    }
    Ok(())
}

fn machine() -> Result<(), Failed> {
    let folder = Folder::of("flow_log")?;
    folder.write("machine.json", r#"{"process_id": 77, "flow_id": 9}"#)?;
    let run = |arguments: &[&str]| {
        let common = [
            "--context",
            r#"{"op": "active_established", "protocol": "TCP", "local_ip4": "192.0.2.1"}"#,
            "--changes",
        ];
        folder.run(&[&common[..], arguments].concat())
    };
    let from_file = run(&["--machine", "machine.json"])?;
    let over = run(&["--machine", "machine.json", "--pid", "78"])?;
    // The record begins with the time, the flow and the process.
    let record = |process: &str| format!("0900000000000000{process}00000000000000");
    if !from_file.contains(&record("4d")) || !from_file.contains("flows: + 9 =") || !over.contains(&record("4e")) {
        return Err(format!("{from_file}{over}").into());
    }
    let (_, error) = folder.fails(6, &["--cpus", "2", "--cpu", "2"])?;
    if !error.contains("BPF5008") {
        return Err(error.into());
    }
    Ok(())
}
