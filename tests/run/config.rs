//! A configuration file: what it does to a running proxy, and what is said of a wrong one.

use crate::client::get;
use crate::process::{Ended, Tidegate, tidegate};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn written(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.toml");
    fs::write(&file, text).unwrap();
    (folder, file)
}

fn check(file: &Path, more: &[&str]) -> Ended {
    tidegate(&[&["check", "--config", file.to_str().unwrap()], more].concat())
}

#[test]
fn a_file_is_enough_to_run() {
    let api = Tidegate::free_api();
    let (_folder, file) = written(&format!(
        "[listen]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n[queue]\nlanes_max = 7\n[[upstream]]\nurl = \"{}\"\n",
        api.url()
    ));
    let file = file.to_str().unwrap();
    let tidegate = Tidegate::run_with(&["--config", file]);
    let said = tidegate.stdout();
    assert!(said.contains(&format!("-> {}\n", api.url())), "{said}");
    assert!(said.contains(&format!("configured by {file}\n")), "{said}");
    assert_eq!(get(tidegate.listen, "/x").status, 200);
    assert!(get(tidegate.admin, "/metrics").body.contains("tidegate_lanes_max 7\n"));
}

#[test]
fn a_file_s_upstreams_routes_and_lanes_are_used() {
    let (api, login) = (Tidegate::free_api(), Tidegate::free_api());
    let text = format!(
        "[[upstream]]\nurl = \"{}\"\nname = \"api\"\n[[upstream]]\nurl = \"{}\"\nname = \"login\"\nprefix = \"/example/login\"\n\
         [[route]]\nname = \"token\"\npath = \"/oauth/token\"\n[[route]]\nname = \"talk\"\npath = \"/chats/**\"\n\
         [[lane]]\nname = \"shared\"\nroutes = \"talk\"\nlaw = \"fixed\"\nrate = \"50/s\"\n",
        api.url(),
        login.url()
    );
    let (_folder, file) = written(&text);
    let free = "127.0.0.1:0";
    let args = ["--config", file.to_str().unwrap(), "--listen", free, "--admin", free];
    let tidegate = Tidegate::run_with(&args);
    for path in ["/example/login/oauth/token", "/chats/1", "/chats/1/messages/2"] {
        assert_eq!(get(tidegate.listen, path).status, 200, "{path}");
    }
    let page = get(tidegate.admin, "/api/v1/lanes").body;
    let lanes: serde_json::Value = serde_json::from_str(&page).unwrap();
    let of = |name: &str| {
        let found = lanes["lanes"].as_array().unwrap().iter().find(|lane| lane["route"] == name);
        found.map(|lane| (lane["upstream"].as_str().unwrap(), lane["law"].as_str().unwrap()))
    };
    assert_eq!(of("token"), Some((&*login.listen.to_string(), "learnt")), "{page}");
    assert_eq!(of("shared"), Some((&*api.listen.to_string(), "fixed")), "{page}");
}

#[test]
fn what_check_prints_is_a_file_that_it_prints_the_same_of() {
    for name in ["default", "genesys", "jmeter", "production"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("config/{name}.toml"));
        let first = check(&file, &["--upstream", "https://api.mypurecloud.com", "--ceiling", "7/s"]);
        assert_eq!(first.code, Some(0), "{first:?}");
        assert!(first.stderr.is_empty(), "{first:?}");
        assert!(first.stdout.contains("ceiling = \"7/s\"\n"), "{first:?}");
        let (_folder, again) = written(&first.stdout);
        assert_eq!(check(&again, &[]).stdout, first.stdout);
    }
}

#[test]
fn every_mistake_is_printed_with_its_line_and_nothing_starts() {
    let text = "[listen]\naddress = 8080\nconnections = 5\n[queue]\ndeadline = 30s\nlanes_max = 0\n[law]\nname = \"fixed\"\n\
                [replay]\non_429 = \"some\"\n[[upstream]]\nurl = \"http://u:s3cret@h\"\n[[route]]\nname = \"a\"\npath = \"b\"\n\
                [[lane]]\nname = \"l\"\nroutes = [\"c\"]\n";
    let (_folder, file) = written(text);
    let shown = file.to_str().unwrap();
    let run = ["run", "--config", shown];
    for ended in [check(&file, &[]), tidegate(&run)] {
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stdout.is_empty() && !ended.stderr.contains("s3cret"), "{ended:?}");
        let found: Vec<_> = ended.stderr.lines().collect();
        let places = [
            "2: listen.address",
            "3: listen.connections",
            "5: queue.deadline",
            "6: queue.lanes_max",
            "8: law.name",
            "10: replay.on_429",
            "12: upstream[0].url",
            "15: route[0].path",
            "18: lane[0].routes",
        ];
        assert_eq!(found.len(), places.len(), "{found:#?}");
        for (line, place) in found.iter().zip(places) {
            assert!(line.starts_with(&format!("{shown}:{place}: ")), "{place}: {line}");
        }
    }
}

#[test]
fn one_port_for_clients_and_operators_is_named_as_that() {
    let ended = tidegate(&[
        "run",
        "--upstream",
        "http://127.0.0.1:9",
        "--listen",
        "127.0.0.1:18765",
        "--admin",
        "127.0.0.1:18765",
    ]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.starts_with("--admin: clients (listen.address 127.0.0.1:18765)"), "{ended:?}");
}

#[test]
fn a_token_file_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, file) = written("s3cret-token");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let args = ["run", "--upstream", "http://127.0.0.1:9", "--admin-token-file", file.to_str().unwrap()];
    let ended = tidegate(&args);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("chmod 600") && !ended.stderr.contains("s3cret"), "{ended:?}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let ended = tidegate(&[&["check"], &args[1..]].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.stdout.contains("s3cret"), "{ended:?}");
}
