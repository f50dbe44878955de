//! Real servers, started and stopped. What happens when an owner is killed, or has other variables in its environment,
//! or is another user, is seen by running this program again as a child: it then plays the part `PART` names.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may end at once, and a child tells its parent what it sees on standard output"
)]

mod helpers;

use std::env;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Barrier;
use std::thread;

use throwaway_postgres::{Database, Error, Options, Restart, Server};
use tokio_postgres::NoTls;

use crate::helpers::{
    assert_comes_true, assert_everything_goes_away, child, child_holding_a_server, databases, directory, is_alive,
    is_root, kill, own_cluster, play, postmaster, processes_naming, query, tell, told_by, value,
};

#[test]
fn a_part_is_played_in_a_child_process() {
    match env::var("PART").as_deref() {
        Err(_) => {}
        // Holds a server in a static until it is killed or its standard input ends.
        Ok("hold") => {
            tell(Server::shared().unwrap().url());
            let _ = io::stdin().read(&mut [0]);
        }
        Ok("start") => match Server::start() {
            Ok(server) => tell(server.url()),
            Err(error) => tell(error),
        },
        Ok("create") => match Server::start().and_then(|server| server.create_database("from child")) {
            Ok(database) => {
                tell(database.name());
                tell(value(database.url(), "SELECT current_database()"));
                tell(value(database.url(), "SHOW server_encoding"));
            }
            Err(error) => tell(error),
        },
        Ok("be somebody else") => {
            let server = own_cluster();
            let directory = directory(server.url());
            tell(fs::metadata(&directory).unwrap().uid());
            tell(value(server.create_database("x").unwrap().url(), "SELECT 1"));
            drop(server);
            tell(directory.exists());
        }
        Ok(part) => panic!("no such part: {part}"),
    }
}

// ---- A server ----

#[test]
fn a_server_answers_and_knows_its_version() {
    let server = own_cluster();
    let version = value(server.url(), "SHOW server_version");
    assert!(version.starts_with(&server.major_version().unwrap().to_string()), "{version}");
    assert_ne!(value(server.url(), "SHOW timezone"), "UTC");
    assert_eq!(value(server.url(), "SHOW fsync"), "off");
}

#[test]
fn files_reach_the_server_and_only_the_server() {
    let rules = "host all all 127.0.0.1/32 password\nhost nowhere all 127.0.0.1/32 reject";
    let options = Options::new().ignore_database_url(true).file("rules", rules).setting("hba_file", "rules");
    let server = Server::start_with(&options).unwrap();
    assert_eq!(value(server.url(), "SELECT count(*)::text FROM pg_hba_file_rules"), "2");
    let file = fs::metadata(directory(server.url()).join("rules")).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let twice = options.file("rules", "");
    assert!(Server::start_with(&twice).unwrap_err().to_string().contains("could not create the file"));
}

#[test]
fn options_reach_the_server() {
    let options = Options::new().ignore_database_url(true).durable(true).setting("max_connections", "20");
    let server = Server::start_with(&options).unwrap();
    assert_eq!(value(server.url(), "SHOW fsync"), "on");
    assert_eq!(value(server.url(), "SHOW synchronous_commit"), "on");
    assert_eq!(value(server.url(), "SHOW max_connections"), "20");
}

#[test]
fn a_setting_which_postgres_refuses_is_shown_with_its_complaint() {
    let options = Options::new().ignore_database_url(true).setting("max_connections", "many");
    let message = Server::start_with(&options).unwrap_err().to_string();
    assert!(message.contains("invalid value for parameter \"max_connections\""), "{message}");
}

#[test]
fn two_servers_in_one_process_are_apart() {
    let started = [(); 2].map(|()| thread::spawn(own_cluster)).map(|thread| thread.join().unwrap());
    let [first, second] = started;
    assert_ne!(first.url(), second.url());
    let database = first.create_database("only_first").unwrap();
    assert!(databases(first.url()).contains(&database.name().to_owned()));
    assert!(!databases(second.url()).contains(&database.name().to_owned()));
}

#[test]
fn two_processes_may_start_a_server_at_once() {
    let children = [(); 2].map(|()| thread::spawn(|| child_holding_a_server(child("hold"))));
    for thread in children {
        let (mut child, url) = thread.join().unwrap();
        assert_eq!(value(&url, "SELECT 1"), "1");
        // Ends its standard input first, so it ends by itself, with a server in a static.
        assert!(child.wait().unwrap().success());
        assert_comes_true("the server has ended", || query(&url, "SELECT 1").is_err());
    }
}

#[test]
fn the_shared_server_is_started_once_even_when_many_ask_at_once() {
    let barrier = Barrier::new(8);
    let ask = || {
        barrier.wait();
        Server::shared().unwrap().url()
    };
    let urls: Vec<&str> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(urls.iter().all(|url| *url == urls[0]));
}

#[test]
fn a_wrong_password_is_refused() {
    let server = own_cluster();
    let (before, after) = server.url().split_once('@').unwrap();
    assert!(query(&format!("{before}x@{after}"), "SELECT 1").is_err());
    let without = format!("postgres://postgres@{after}");
    assert!(query(&without, "SELECT 1").is_err());
}

#[test]
fn everything_works_inside_of_a_runtime() {
    fn use_it() {
        let server = own_cluster();
        let database = server.create_database("inside").unwrap();
        assert!(server.major_version().unwrap() > 0);
        drop(database);
    }
    let current_thread = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    current_thread.block_on(async { use_it() });
    // The number of threads does not matter to us, only that we are on one of the runtime's.
    current_thread.block_on(async { tokio::task::spawn_blocking(use_it).await.unwrap() });
}

#[test]
fn a_server_is_restarted_and_still_ends_with_its_owner() {
    let parent = env::temp_dir().join(format!("throwaway-postgres-parent-{}", std::process::id()));
    fs::create_dir(&parent).unwrap();
    let options = Options::new().ignore_database_url(true).durable(true).parent_directory(&parent);
    let server = Server::start_with(&options).unwrap();
    let directory = directory(server.url());
    assert_eq!(directory.parent(), Some(parent.as_path()));
    query(server.url(), "CREATE TABLE kept AS SELECT 42 AS answer").unwrap();
    for mode in [Restart::Fast, Restart::Immediate] {
        let former = postmaster(&directory);
        server.restart(mode).unwrap();
        assert!(!is_alive(&former));
        assert_eq!(value(server.url(), "SELECT answer FROM kept"), "42");
    }
    let ended = postmaster(&directory);
    assert!(kill("-QUIT", &ended));
    assert_comes_true("the server has ended on its own", || !is_alive(&ended));
    server.restart(Restart::Fast).unwrap();
    let postmaster = postmaster(&directory);
    drop(server);
    assert!(!directory.exists());
    assert!(!is_alive(&postmaster));
    fs::remove_dir(&parent).unwrap();
}

// ---- Databases ----

#[test]
fn a_standby_follows_its_primary_and_outlives_it_when_it_is_promoted() {
    let primary = own_cluster();
    let standby = primary.start_standby(&Options::new()).unwrap();
    query(primary.url(), "CREATE TABLE of_primary AS SELECT 1 AS number").unwrap();
    assert_comes_true("the table arrives", || query(standby.url(), "SELECT number FROM of_primary").is_ok());
    assert!(query(standby.url(), "CREATE TABLE refused (number int)").is_err());
    let (directory, postmaster) = (directory(primary.url()), postmaster(&directory(primary.url())));
    drop(primary);
    assert_everything_goes_away(&directory, &postmaster);
    assert_eq!(value(standby.url(), "SELECT pg_promote()"), "t");
    query(standby.url(), "INSERT INTO of_primary VALUES (2)").unwrap();
    let database = standby.create_database("on_former_standby").unwrap();
    assert_eq!(value(database.url(), "SELECT current_user::text"), "application");
}

#[test]
fn a_database_is_dropped_with_its_value_even_while_somebody_is_connected() {
    let server = own_cluster();
    let database = server.create_database("dropped").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (_client, _connection) = runtime.block_on(tokio_postgres::connect(database.url(), NoTls)).unwrap();
    let name = database.name().to_owned();
    assert!(databases(server.url()).contains(&name));
    drop(database);
    assert!(!databases(server.url()).contains(&name));
}

#[test]
fn a_database_keeps_its_server_alive() {
    let database = own_cluster().create_database("alone").unwrap();
    assert_eq!(value(database.url(), "SELECT 1"), "1");
    let directory = directory(database.superuser_url());
    drop(database);
    assert!(!directory.exists());
}

#[test]
fn a_prefix_may_have_any_characters_and_any_length() {
    let server = own_cluster();
    for prefix in ["", "a b", "it's \"quoted\"", "ünï/?#%&=@:", &"long".repeat(50)] {
        let database = server.create_database(prefix).unwrap();
        assert_eq!(value(database.url(), "SELECT current_database()"), database.name());
    }
}

#[test]
fn ten_threads_copy_one_template_at_once() {
    let server = own_cluster();
    let template = server.create_database("template").unwrap();
    query(template.url(), "CREATE TABLE copied AS SELECT 42 AS answer").unwrap();
    let barrier = Barrier::new(10);
    let copy = || -> Result<Database, Error> {
        barrier.wait();
        server.create_database_from(&template, "copy")
    };
    let copies: Vec<Database> = thread::scope(|scope| {
        let threads: Vec<_> = (0..10).map(|_| scope.spawn(copy)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
    });
    for copy in &copies {
        assert_eq!(value(copy.url(), "SELECT answer FROM copied"), "42");
    }
}

#[test]
fn a_copy_waits_until_the_last_connection_to_the_template_is_closed() {
    let server = own_cluster();
    let template = server.create_database("template").unwrap();
    // Longer than the five seconds for which PostgreSQL itself waits.
    let connected = "SELECT pg_sleep(6)";
    thread::scope(|scope| {
        scope.spawn(|| query(template.url(), connected).unwrap());
        let running = format!("SELECT count(*) FROM pg_stat_activity WHERE query = '{connected}'");
        assert_comes_true("somebody is connected", || value(server.url(), &running) == "1");
        let copy = server.create_database_from(&template, "copy").unwrap();
        assert_eq!(value(copy.url(), "SELECT 1"), "1");
    });
}

// ---- How it ends ----

#[test]
fn nothing_is_left_after_drop() {
    let server = own_cluster();
    let directory = directory(server.url());
    let postmaster = postmaster(&directory);
    assert!(is_alive(&postmaster));
    assert!(!processes_naming(&directory).is_empty());
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    assert_ne!(fs::metadata(&directory).unwrap().uid(), 0, "PostgreSQL refuses to run as root");
    drop(server);
    // Drop waits for all of it, so there is nothing to wait for here.
    assert!(!directory.exists());
    assert!(!is_alive(&postmaster));
    assert!(processes_naming(&directory).is_empty());
}

#[test]
fn nothing_is_left_after_the_owner_was_killed() {
    let (mut child, url) = child_holding_a_server(child("hold"));
    let directory = directory(&url);
    let postmaster = postmaster(&directory);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_everything_goes_away(&directory, &postmaster);
}

#[test]
fn nothing_is_left_after_ctrl_c_in_the_terminal() {
    let mut command = child("hold");
    command.process_group(0);
    let (mut child, url) = child_holding_a_server(command);
    let directory = directory(&url);
    let postmaster = postmaster(&directory);
    // A terminal sends the signal to the whole group.
    assert!(kill("-INT", &format!("-{}", child.id())));
    child.wait().unwrap();
    assert_everything_goes_away(&directory, &postmaster);
}

#[test]
fn nothing_is_left_if_the_server_was_told_to_end_as_well() {
    let (mut child, url) = child_holding_a_server(child("hold"));
    let directory = directory(&url);
    let postmaster = postmaster(&directory);
    // As a service manager does: a signal to all that was started, at once.
    for process in processes_naming(&directory) {
        kill("-TERM", &process);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_everything_goes_away(&directory, &postmaster);
}

// ---- The environment ----

#[test]
fn a_wrong_postgres_bin_is_an_error_which_names_it() {
    let mut command = child("start");
    command.env("POSTGRES_BIN", "/no/such/directory");
    let told = told_by(command);
    assert!(told[0].contains("POSTGRES_BIN=/no/such/directory"), "{told:?}");
    assert!(told[0].contains("`initdb`") && told[0].contains("`postgres`"), "{told:?}");
}

#[test]
fn variables_meant_for_another_server_do_no_harm() {
    let mut command = child("start");
    command.envs([("PGPORT", "1"), ("PGDATA", "/nowhere"), ("PGUSER", "x"), ("DATABASE_URL", ""), ("LC_ALL", "xx_YY")]);
    assert!(told_by(command)[0].starts_with("postgres://postgres:"));
}

#[test]
fn the_server_named_by_database_url_is_used_and_left_as_it_was() {
    let server = own_cluster();
    for url in [server.url().to_owned(), format!("{}?application_name=x", server.url())] {
        let before = databases(server.url());
        let mut command = child("create");
        command.env("DATABASE_URL", url).env("POSTGRES_BIN", "/never/looked/at");
        let told = told_by(command);
        assert!(told[0].starts_with("procrastinate_from child_"), "{told:?}");
        assert_eq!(told[1..], [told[0].clone(), "UTF8".to_owned()]);
        assert_eq!(databases(server.url()), before);
    }
}

#[test]
fn a_role_without_the_right_to_create_databases_learns_what_to_grant() {
    let server = own_cluster();
    query(server.url(), "CREATE ROLE \"poor me\" LOGIN PASSWORD 'secret'").unwrap();
    let (_, address) = server.url().split_once('@').unwrap();
    let mut command = child("create");
    command.env("DATABASE_URL", format!("postgres://poor%20me:secret@{address}"));
    let told = told_by(command);
    assert!(told[0].contains("ALTER ROLE \"poor me\" CREATEDB"), "{told:?}");
}

#[test]
fn a_database_url_which_nobody_answers_is_an_error_without_the_password() {
    let mut command = child("start");
    command.env("DATABASE_URL", "postgres://somebody:hidden@127.0.0.1:1/app");
    let told = told_by(command);
    assert!(told[0].contains("DATABASE_URL") && told[0].contains("refused"), "{told:?}");
    assert!(!told[0].contains("hidden"), "{told:?}");
}

#[test]
fn an_ordinary_user_can_start_a_server() {
    const NOBODY: u32 = 65534;
    if !is_root() {
        println!("skipped: only root can become another user, and the other tests ran as an ordinary user anyway");
        return;
    }
    // The program itself may be somewhere only root can reach.
    let place = env::temp_dir().join(format!("throwaway-postgres-copy-{}", std::process::id()));
    fs::copy(env::current_exe().unwrap(), &place).unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(&place);
    play(&mut command, "be somebody else");
    command.current_dir("/").uid(NOBODY).gid(NOBODY);
    let told = told_by(command);
    fs::remove_file(&place).unwrap();
    assert_eq!(told, [NOBODY.to_string(), "1".to_owned(), "false".to_owned()]);
}
