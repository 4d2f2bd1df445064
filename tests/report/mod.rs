//! `report`: pages hold what files have, whatever they have in them, and browsers show them as they are meant.

use std::fs;
use std::path::Path;
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use crate::examples::EXAMPLES;
use crate::support::{Need, output, root, succeed, test, test_with, tool};

pub fn trials() -> Vec<Trial> {
    let python = [Need::Program("python3")];
    let browser = [
        Need::Program("chromium"),
        Need::Program("python3"),
        Need::Program("bash"),
    ];
    vec![
        test("report::pages_name_what_drivers_have_and_are_the_same_again", examples),
        test(
            "report::an_image_is_shown_with_its_object_only_if_it_is_the_one",
            objects_of_images,
        ),
        test("report::other_tables_than_the_objects_are_not_proven", other_tables),
        test(
            "report::signatures_and_statements_are_shown_without_the_present",
            signed,
        ),
        test("report::inputs_are_refused_that_make_no_page", refused),
        test_with("report::hostile_names_stay_text", &python, hostile),
        test_with("report::pages_are_well_formed", &python, well_formed),
        test_with("report::browsers_show_pages_without_complaints", &browser, in_a_browser),
        test_with("report::the_browser_test_finds_what_it_is_for", &browser, planted),
    ]
}

/// A folder with an example's object and its driver.
fn example(name: &str) -> Result<tempfile::TempDir, Failed> {
    let folder = tempfile::tempdir()?;
    let object = format!("{name}.o");
    fs::copy(
        root().join("examples").join(name).join(&object),
        folder.path().join(&object),
    )?;
    succeed(tool().current_dir(&folder).args(["build", "-q", &object]))?;
    Ok(folder)
}

/// The page of a file.
fn page(folder: &Path, arguments: &[&str]) -> Result<String, Failed> {
    succeed(
        tool()
            .current_dir(folder)
            .arg("report")
            .args(arguments)
            .args(["-o", "-"]),
    )
}

fn examples() -> Result<(), Failed> {
    for name in EXAMPLES {
        let folder = example(name)?;
        let (object, image) = (format!("{name}.o"), format!("{name}.sys"));
        let inspected = succeed(tool().current_dir(&folder).args(["inspect", "--json", &image]))?;
        let inspected: serde_json::Value = serde_json::from_str(&inspected)?;
        let names = |path: &str| -> Vec<String> {
            let all = inspected.pointer(path).and_then(serde_json::Value::as_array);
            let all = all.into_iter().flatten().filter_map(|entry| entry["name"].as_str());
            all.map(str::to_owned).collect()
        };
        let mut wanted = [names("/module/programs"), names("/module/maps"), names("/sections")].concat();
        wanted.extend(["SHA-256", "bpf_", "contract.4.3.definition", "pe.machine"].map(str::to_owned));
        for arguments in [&[image.as_str()][..], &[&object], &[&object, "--arch", "arm64"]] {
            let shown = page(folder.path(), arguments)?;
            for name in &wanted {
                assert!(shown.contains(name.as_str()), "{arguments:?}: no {name}");
            }
            assert!(
                shown.contains("proven safe") && shown.contains(r#"<td class="source">"#),
                "{arguments:?}"
            );
            assert_eq!(shown, page(folder.path(), arguments)?, "{arguments:?}");
            assert!(
                !shown.contains(&*folder.path().to_string_lossy()),
                "{arguments:?}: names the folder"
            );
        }
        // A file gets the same bytes as standard output.
        succeed(tool().current_dir(&folder).args(["report", &image, "-o", "page.html"]))?;
        assert_eq!(
            fs::read_to_string(folder.path().join("page.html"))?,
            page(folder.path(), &[&image])?
        );
    }
    Ok(())
}

fn objects_of_images() -> Result<(), Failed> {
    let folder = example("udp_filter")?;
    let path = |name: &str| folder.path().join(name);
    fs::copy(path("udp_filter.sys"), path("alone.sys"))?;
    let alone = page(folder.path(), &["alone.sys"])?;
    assert!(alone.contains("not proven here") && alone.contains("no object is beside the image"));
    assert!(alone.contains("Address (RVA)") && !alone.contains(r#"<td class="source">"#));
    assert!(alone.contains("bpf_map_lookup_elem") && alone.contains("blocked_ports"));
    let named = page(folder.path(), &["alone.sys", "--object", "udp_filter.o"])?;
    assert!(named.contains("byte for byte") && named.contains(r#"<td class="source">"#));
    fs::copy(root().join("examples/flow_log/flow_log.o"), path("flow_log.o"))?;
    let other = page(folder.path(), &["alone.sys", "--object", "flow_log.o"])?;
    assert!(other.contains("other code") && !other.contains("proven safe"));
    // Another object beside the driver is none of it.
    fs::copy(path("flow_log.o"), path("udp_filter.o"))?;
    assert!(page(folder.path(), &["udp_filter.sys"])?.contains("not proven here"));
    Ok(())
}

/// The code alone is not the program: its maps are in tables.
fn other_tables() -> Result<(), Failed> {
    let folder = example("udp_filter")?;
    let path = folder.path().join("udp_filter.sys");
    let image = fs::read(&path)?;
    let name = b"blocked_ports";
    let place = image
        .windows(name.len())
        .position(|bytes| bytes == name)
        .ok_or("no map name")?;
    let mut changed = image.clone();
    changed[place] = b'B';
    fs::write(&path, &changed)?;
    let shown = page(folder.path(), &["udp_filter.sys"])?;
    assert!(shown.contains("not what was proven") && !shown.contains("proven safe"));
    assert!(shown.contains("section <code>.rdata</code>"));
    // A version resource changes nothing that was proven.
    let version = "company = 'Contoso'\nproduct = 'Filter'\ndescription = 'Drops'\nfile-version = '1.2.3.4'\n";
    fs::write(folder.path().join("version.toml"), version)?;
    let build = [
        "build",
        "-q",
        "udp_filter.o",
        "--version-info",
        "version.toml",
        "--force-integrity",
    ];
    succeed(tool().current_dir(&folder).args(build))?;
    let shown = page(folder.path(), &["udp_filter.sys"])?;
    assert!(shown.contains("byte for byte") && shown.contains("Contoso") && shown.contains("1.2.3.4"));
    Ok(())
}

fn signed() -> Result<(), Failed> {
    let folder = example("udp_filter")?;
    let run = |arguments: &[&str]| succeed(tool().current_dir(&folder).args(arguments));
    run(&["cert", "new"])?;
    run(&["sign", "udp_filter.sys", "--pfx", "signing.pfx"])?;
    let unknown = page(folder.path(), &["udp_filter.sys"])?;
    assert!(unknown.contains("intact") && unknown.contains("the first moment of the signer&#39;s certificate"));
    assert!(
        unknown.contains("byte for byte"),
        "a signature changes nothing that was proven"
    );
    let rooted = page(folder.path(), &["udp_filter.sys", "--root", "root.cer"])?;
    assert!(rooted.contains("verified") && rooted.contains("ends at a given root"));
    let late = page(folder.path(), &["udp_filter.sys", "--at", "2300-01-01"])?;
    assert!(late.contains("and not at 2300-01-01"));
    let package = [
        "package",
        "udp_filter.sys",
        "--object",
        "udp_filter.o",
        "-o",
        "p.cab",
        "--attest-key",
        "signing.pfx",
        "--provider",
        "Contoso",
        "--driver-version",
        "1.2.3.4",
        "--driver-date",
        "2026-11-22",
        "-q",
    ];
    run(&package)?;
    let stated = page(folder.path(), &["udp_filter.sys"])?;
    assert!(stated.contains("this image: the hash is the same") && stated.contains("the one that this page shows"));
    assert!(stated.contains("urn:bpf2sys:cli:v1") && stated.contains("sign-return-address"));
    // The statement of another image.
    run(&["sign", "udp_filter.sys", "--remove"])?;
    assert!(page(folder.path(), &["udp_filter.sys"])?.contains("this image, but for its signatures"));
    let other = ["udp_filter.sys", "--statement", "udp_filter.sys.intoto.jsonl"];
    run(&["build", "-q", "udp_filter.o", "--cfg", "off"])?;
    assert!(page(folder.path(), &other)?.contains("another image: the hash is another one"));
    fs::write(folder.path().join("udp_filter.sys.intoto.jsonl"), "no statement")?;
    assert!(page(folder.path(), &other)?.contains("can&#39;t be read"));
    Ok(())
}

fn refused() -> Result<(), Failed> {
    let folder = example("udp_filter")?;
    fs::write(folder.path().join("text.o"), "no object")?;
    fs::write(folder.path().join("short.sys"), "MZ")?;
    for (arguments, status, part) in [
        (&["text.o", "-o", "page.html"][..], 3, "BPF"),
        (&["short.sys", "-o", "page.html"], 3, "BPF"),
        (&["udp_filter.sys", "-o", "udp_filter.sys"], 2, "is an input"),
        (
            &["udp_filter.sys", "--object", "udp_filter.o", "-o", "udp_filter.o"],
            2,
            "is an input",
        ),
        (
            &["udp_filter.o", "--object", "udp_filter.o", "-o", "page.html"],
            2,
            "about a driver",
        ),
        (
            &["udp_filter.sys", "--coverage", "text.o", "-o", "page.html"],
            3,
            "BPF5019",
        ),
        (&["udp_filter.sys"], 2, "--output"),
        (&["missing.sys", "-o", "page.html"], 1, "missing.sys"),
    ] {
        let out = output(tool().current_dir(&folder).arg("report").args(arguments))?;
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(status), "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
        assert!(!folder.path().join("page.html").exists(), "{arguments:?}");
    }
    Ok(())
}

/// An object whose names and source lines are markup.
fn hostile_object(folder: &Path) -> Result<(), Failed> {
    let mut object = fs::read(root().join("examples/udp_filter/udp_filter.o"))?;
    for (text, markup) in [
        // Names of a map, of the program, and of a global variable; lines of the source.
        ("blocked_ports", "<b\x1b>&lt;\"'<p>"),
        ("udp_filter", "</table><a"),
        ("monitor_only", "<img src=x/>"),
        ("if (value) {", "</style><x>{"),
        ("switch (type) {", "<script>x()</s>"),
    ] {
        assert_eq!(text.len(), markup.len());
        let places: Vec<usize> = (0..object.len() - text.len())
            .filter(|place| object[*place..].starts_with(text.as_bytes()))
            .collect();
        assert!(!places.is_empty(), "no {text}");
        for place in places {
            object[place..place + text.len()].copy_from_slice(markup.as_bytes());
        }
    }
    fs::write(folder.join("hostile.o"), object)?;
    Ok(())
}

fn hostile() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    hostile_object(folder.path())?;
    let shown = page(folder.path(), &["hostile.o"])?;
    for text in [
        "&lt;b\\u{1b}&gt;&amp;lt;&quot;&#39;&lt;p&gt;",
        "&lt;/table&gt;&lt;a",
        "&lt;script&gt;x()&lt;/s&gt;",
    ] {
        assert!(shown.contains(text), "no {text}");
    }
    for markup in ["<img", "<script", "<x>", "<b\\", "\x1b"] {
        assert!(!shown.contains(markup), "{markup}");
    }
    fs::write(folder.path().join("page.html"), shown)?;
    held_to_rules(folder.path(), &["page.html"])
}

/// Holds pages to the rules of `well_formed.py`.
fn held_to_rules(folder: &Path, pages: &[&str]) -> Result<(), Failed> {
    let script = root().join("tests/report/well_formed.py");
    let said = succeed(Command::new("python3").current_dir(folder).arg(script).args(pages))?;
    if said.is_empty() { Ok(()) } else { Err(said.into()) }
}

fn well_formed() -> Result<(), Failed> {
    for name in EXAMPLES {
        let folder = example(name)?;
        let (object, image) = (format!("{name}.o"), format!("{name}.sys"));
        succeed(
            tool()
                .current_dir(&folder)
                .args(["report", &object, "-o", "object.html"]),
        )?;
        succeed(tool().current_dir(&folder).args(["report", &image, "-o", "image.html"]))?;
        fs::remove_file(folder.path().join(&object))?;
        succeed(tool().current_dir(&folder).args(["report", &image, "-o", "alone.html"]))?;
        held_to_rules(folder.path(), &["object.html", "image.html", "alone.html"])?;
    }
    // What the script is for, it finds.
    let folder = tempfile::tempdir()?;
    fs::write(
        folder.path().join("page.html"),
        "<p id=a><b></p><script></script><a href='#c'></a>",
    )?;
    assert!(held_to_rules(folder.path(), &["page.html"]).is_err());
    Ok(())
}

/// What a browser has to say about pages, by page, width and scheme of colours.
fn told_by_browser(folder: &Path, pages: &[&str]) -> Result<serde_json::Map<String, serde_json::Value>, Failed> {
    let script = root().join("tests/report/browser.py");
    // For people who want to look.
    let screenshots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report");
    fs::create_dir_all(&screenshots)?;
    let mut command = Command::new("python3");
    command.current_dir(folder).arg(script).args(pages);
    let said = succeed(command.arg("--screenshots").arg(&screenshots))?;
    for picture in pages.iter().map(|page| page.replace(".html", "-1280-light.png")) {
        assert!(fs::read(screenshots.join(picture))?.starts_with(b"\x89PNG"));
    }
    match serde_json::from_str(&said)? {
        serde_json::Value::Object(said) => Ok(said),
        other => Err(format!("{other} is no answer").into()),
    }
}

fn in_a_browser() -> Result<(), Failed> {
    let folder = example("udp_filter")?;
    fs::copy(
        root().join("examples/tail_dispatch/tail_dispatch.o"),
        folder.path().join("tail_dispatch.o"),
    )?;
    hostile_object(folder.path())?;
    fs::copy(folder.path().join("udp_filter.sys"), folder.path().join("alone.sys"))?;
    let mut pages = Vec::new();
    for file in ["udp_filter.sys", "tail_dispatch.o", "hostile.o", "alone.sys"] {
        let page = format!("{file}.html");
        succeed(tool().current_dir(&folder).args(["report", file, "-o", &page]))?;
        pages.push(page);
    }
    // What ran, as a page of its own and in the report.
    let mut command = tool();
    command
        .current_dir(root())
        .args(["test", "examples/udp_filter", "examples/tail_dispatch", "--quiet"]);
    for file in ["ran.html", "ran.info"] {
        command.arg("--coverage").arg(folder.path().join(file));
    }
    succeed(&mut command)?;
    let marked = page(folder.path(), &["tail_dispatch.o", "--coverage", "ran.info"])?;
    assert!(marked.contains("class=\"never-ran\"") && marked.contains("Lines that ran"));
    fs::write(folder.path().join("marked.html"), marked)?;
    held_to_rules(folder.path(), &["ran.html", "marked.html"])?;
    pages.extend(["ran.html".to_owned(), "marked.html".to_owned()]);
    let pages: Vec<&str> = pages.iter().map(String::as_str).collect();
    let said = told_by_browser(folder.path(), &pages)?;
    assert_eq!(said.len(), pages.len() * 4);
    let wrong: Vec<String> = said
        .iter()
        .filter(|(_, said)| said.as_array().is_none_or(|said| !said.is_empty()))
        .map(|(page, said)| format!("{page}: {said}"))
        .collect();
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n").into())
    }
}

/// Pages with something wrong, each with what the browser must say of it.
fn planted() -> Result<(), Failed> {
    let folder = example("flow_log")?;
    let page = page(folder.path(), &["flow_log.sys"])?;
    let cases = [
        ("script", "<script>void 0</script>", "log: "),
        ("picture", "<img src='picture.png'>", "log: "),
        ("wide", "<div style='width:1500px'>x</div>", "pixels wide"),
        ("link", "<a href='#nowhere'>x</a>", "leads nowhere"),
    ];
    let mut names = Vec::new();
    for (name, planted, _) in &cases {
        let file = format!("{name}.html");
        fs::write(
            folder.path().join(&file),
            page.replacen("<h1>", &format!("{planted}<h1>"), 1),
        )?;
        names.push(file);
    }
    let pages: Vec<&str> = names.iter().map(String::as_str).collect();
    let said = told_by_browser(folder.path(), &pages)?;
    for (name, _, part) in cases {
        for width in [1280, 400] {
            let key = format!("{name}-{width}-light");
            let said = said.get(&key).ok_or("no answer")?.to_string();
            assert!(said.contains(part) && said != "[]", "{key}: {said}");
        }
    }
    Ok(())
}
