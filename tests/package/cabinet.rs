//! The package: what cabextract finds in it.

use std::fs;
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use super::{Shop, section};
use crate::support::{Need, succeed, test, test_with};

pub fn trials() -> Vec<Trial> {
    let judged = |name: &str, body: fn() -> Result<(), Failed>| {
        test_with(
            &format!("package::cabinet::{name}"),
            &[Need::Program("cabextract")],
            body,
        )
    };
    vec![
        judged("cabextract_reads_drivers_of_both_machines", both_machines),
        judged("several_drivers_have_folders_of_their_own", several_drivers),
        judged("large_repetitive_files_come_out_as_they_went_in", repetitive_files),
        judged("the_date_is_that_of_the_environment", date_of_the_environment),
        test("package::cabinet::the_same_input_gives_the_same_bytes", same_bytes),
    ]
}

/// What cabextract lists: names, with the columns before them.
fn listed(shop: &Shop) -> Result<Vec<String>, Failed> {
    let text = succeed(
        Command::new("cabextract")
            .args(["-l", "filter.cab"])
            .current_dir(&shop.folder),
    )?;
    if !text.contains("All done, no errors.") {
        return Err(format!("cabextract complains:\n{text}").into());
    }
    let lines = text
        .lines()
        .filter(|line| line.matches(" | ").count() == 2 && !line.contains("File size"));
    Ok(lines.map(|line| line.trim().to_owned()).collect())
}

fn extract(shop: &Shop) -> Result<(), Failed> {
    succeed(
        Command::new("cabextract")
            .args(["-q", "-d", "out", "filter.cab"])
            .current_dir(&shop.folder),
    )?;
    Ok(())
}

fn both_machines() -> Result<(), Failed> {
    let shop = Shop::new()?;
    succeed(shop.tool().args(["build", "-q", "--arch", "x64,arm64", "filter.o"]))?;
    fs::write(shop.path("filter.arm64.pdb"), b"symbols")?;
    let images = ["filter.arm64.sys", "filter.x64.sys", "--object", "filter.o"];
    succeed(shop.package(&images).args(["--symbols", "filter.arm64.pdb"]))?;
    let listed = listed(&shop)?;
    let names: Vec<&str> = listed.iter().filter_map(|line| line.rsplit(" | ").next()).collect();
    let expected = [
        "filter/arm64/filter.arm64.pdb",
        "filter/arm64/filter.sys",
        "filter/filter.inf",
        "filter/x64/filter.sys",
    ];
    assert_eq!(names, expected);
    assert!(
        listed.iter().all(|line| line.contains("01.01.1980 00:00:00")),
        "{listed:?}"
    );
    extract(&shop)?;
    for (inside, outside) in [
        ("out/filter/x64/filter.sys", "filter.x64.sys"),
        ("out/filter/arm64/filter.sys", "filter.arm64.sys"),
        ("out/filter/arm64/filter.arm64.pdb", "filter.arm64.pdb"),
    ] {
        assert!(shop.read(inside)? == shop.read(outside)?, "{inside}");
    }
    let inf = String::from_utf8(shop.read("out/filter/filter.inf")?)?;
    let version = section(&inf, "Version");
    for line in [
        r#"Signature = "$WINDOWS NT$""#,
        "Class = System",
        "ClassGuid = {4d36e97d-e325-11ce-bfc1-08002be10318}",
        "Provider = %Provider%",
        "CatalogFile = filter.cat",
        "DriverVer = 11/22/2026,1.4.0.2",
        "PnpLockdown = 1",
    ] {
        assert!(
            version.iter().any(|found| found == line),
            "{line} is not in {version:?}"
        );
    }
    for (decoration, folder) in [("amd64", "x64"), ("arm64", "arm64")] {
        let copied = format!("Driver.{decoration}");
        assert_eq!(
            section(&inf, &format!("DefaultInstall.NT{decoration}")),
            [format!("CopyFiles = {copied}")]
        );
        assert_eq!(section(&inf, &copied), ["filter.sys"]);
        assert_eq!(
            section(&inf, &format!("SourceDisksFiles.{decoration}")),
            [format!("filter.sys = 1,{folder}")]
        );
        assert!(section(&inf, "DestinationDirs").contains(&format!("{copied} = 13,{folder}")));
    }
    assert!(section(&inf, "Strings").contains(&r#"Provider = "Contoso""#.to_owned()));
    // ebpfsvc alone makes the service, with parameters of its own.
    assert!(!inf.contains("AddService ="), "{inf}");
    Ok(())
}

fn several_drivers() -> Result<(), Failed> {
    let shop = Shop::new()?;
    fs::copy(shop.path("filter.o"), shop.path("other.o"))?;
    succeed(shop.tool().args(["build", "-q", "other.o"]))?;
    let images = ["other.sys", "filter.sys", "--object", "other.o", "--object", "filter.o"];
    succeed(&mut shop.package(&images))?;
    let listed = listed(&shop)?;
    let names: Vec<&str> = listed.iter().filter_map(|line| line.rsplit(" | ").next()).collect();
    let expected = [
        "filter/filter.inf",
        "filter/x64/filter.sys",
        "other/other.inf",
        "other/x64/other.sys",
    ];
    assert_eq!(names, expected);
    for image in ["filter", "other"] {
        let (object, image) = (format!("{image}.o"), format!("{image}.sys"));
        succeed(&mut shop.verify(&[&image, &object, &format!("{image}.intoto.jsonl")]))?;
    }
    Ok(())
}

/// What compression by the library gets wrong.
fn repetitive_files() -> Result<(), Failed> {
    let shop = Shop::new()?;
    fs::write(shop.path("zeros.pdb"), vec![0; 5 << 20])?;
    fs::write(shop.path("my.inf"), "; mine\r\n".repeat(9999))?;
    let arguments = [
        "filter.sys",
        "--object",
        "filter.o",
        "--symbols",
        "zeros.pdb",
        "--inf",
        "my.inf",
    ];
    succeed(&mut shop.package(&arguments))?;
    listed(&shop)?;
    extract(&shop)?;
    assert!(shop.read("out/filter/x64/zeros.pdb")? == shop.read("zeros.pdb")?);
    assert!(shop.read("out/filter/filter.inf")? == shop.read("my.inf")?);
    Ok(())
}

fn date_of_the_environment() -> Result<(), Failed> {
    let shop = Shop::new()?;
    let mut command = shop.tool();
    command.args([
        "package",
        "filter.sys",
        "--object",
        "filter.o",
        "-o",
        "filter.cab",
        "--no-statement",
    ]);
    command.args(["--provider", "Contoso", "--driver-version", "2"]);
    succeed(command.env("SOURCE_DATE_EPOCH", "1700000000"))?; // 14 November 2023, 22:13:20
    assert!(listed(&shop)?.iter().all(|line| line.contains("14.11.2023 00:00:00")));
    extract(&shop)?;
    let inf = String::from_utf8(shop.read("out/filter/filter.inf")?)?;
    assert!(section(&inf, "Version").contains(&"DriverVer = 11/14/2023,2.0.0.0".to_owned()));
    Ok(())
}

fn same_bytes() -> Result<(), Failed> {
    let shop = Shop::packaged()?;
    let before = (shop.read("filter.cab")?, shop.read("filter.sys.intoto.jsonl")?);
    for file in ["filter.cab", "filter.sys.intoto.jsonl"] {
        fs::remove_file(shop.path(file))?;
    }
    // From another folder, by other paths, and in another order.
    let mut command = shop.package(&["shop/filter.sys", "--object", "shop/filter.o"]);
    let above = tempfile::tempdir()?;
    fs::create_dir(above.path().join("shop"))?;
    for file in ["filter.sys", "filter.o", "signing.pfx"] {
        fs::copy(shop.path(file), above.path().join("shop").join(file))?;
    }
    fs::copy(shop.path("signing.pfx"), above.path().join("signing.pfx"))?;
    succeed(command.current_dir(&above))?;
    let cabinet = fs::read(above.path().join("filter.cab"))?;
    let statement = fs::read(above.path().join("shop/filter.sys.intoto.jsonl"))?;
    assert!((cabinet, statement) == before, "the second run gave other bytes");
    Ok(())
}
