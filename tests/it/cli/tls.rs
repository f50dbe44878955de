//! TLS between the program and a server, as `sslmode` and `sslrootcert` say.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use diesel::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use throwaway_postgres::{Database, Options, Server};
use x509_cert::der::pem::LineEnding;
use x509_cert::der::{Decode, EncodePem};
use x509_cert::{Certificate, Version};

use super::{Ended, on, program, run};
use crate::support::{database, sql};

/// Encryption is required from the role that owns the databases, and refused from the role `plain`.
const RULES: &str = "host all postgres 127.0.0.1/32 password
hostssl all application 127.0.0.1/32 scram-sha-256
hostnossl all plain 127.0.0.1/32 password";

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    fn new() -> Self {
        Self::named("an authority")
    }

    fn named(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = of_an_authority();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// A server whose certificate is for `localhost`, and not for `127.0.0.1`.
    fn server(&self, change: impl FnOnce(&mut CertificateParams)) -> Server {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        server(&certificate.pem(), &key)
    }
}

fn of_an_authority() -> CertificateParams {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn server(certificate: &str, key: &KeyPair) -> Server {
    let options = Options::new().ignore_database_url(true).file("rules", RULES).file("server.crt", certificate);
    let options = options.file("server.key", key.serialize_pem()).setting("hba_file", "rules").setting("ssl", "on");
    let options = options.setting("ssl_cert_file", "../server.crt").setting("ssl_key_file", "../server.key");
    Server::start_with(&options.setting("password_encryption", "scram-sha-256")).unwrap()
}

/// A file that goes with its value.
struct File(PathBuf);

impl File {
    fn new(name: &str, contents: &str) -> Self {
        let path = std::env::temp_dir().join(format!("procrastinate-tls-{}-{name}", std::process::id()));
        std::fs::write(&path, contents).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The server of most tests, with a migrated database on it, and its authority.
fn shared() -> &'static (Authority, Database) {
    static SHARED: OnceLock<(Authority, Database)> = OnceLock::new();
    SHARED.get_or_init(|| {
        let authority = Authority::new();
        let server = authority.server(|_| ());
        let mut superuser = PgConnection::establish(server.url()).unwrap();
        sql(&mut superuser, "CREATE ROLE plain LOGIN PASSWORD 's3cret' IN ROLE application");
        let database = server.create_database("tls").unwrap();
        run(to(&database, &["sslmode=require"], &["schema", "apply"])).well();
        (authority, database)
    })
}

/// The address of a database by the name of its host, with these parameters.
fn address(database: &Database, parameters: &[&str]) -> String {
    format!("{}?{}", database.url().replace("127.0.0.1", "localhost"), parameters.join("&"))
}

fn to(database: &Database, parameters: &[&str], arguments: &[&str]) -> Command {
    let address = address(database, parameters);
    program(&[&["--database-url", &address], arguments].concat())
}

/// Connects with these parameters, and lists no jobs. Whatever the program says, it does not say the password.
fn list(database: &Database, parameters: &[&str]) -> Ended {
    without_password(database, run(to(database, parameters, &["list_jobs", "--json"])))
}

fn without_password(database: &Database, ended: Ended) -> Ended {
    let password = database.url().split(['/', ':', '@']).nth(4).unwrap();
    assert_eq!(password.len(), 32);
    assert!(!format!("{ended:?}").contains(password) && !ended.err.contains("s3cret"), "{ended:?}");
    ended
}

/// The parameter for the certificate of an authority.
fn roots(file: &File) -> String {
    format!("sslrootcert={}", file.path())
}

#[test]
fn each_mode_but_disable_reaches_a_server_that_requires_encryption() {
    let (authority, database) = shared();
    let file = File::new("right", &authority.certificate);
    let roots = roots(&file);
    for parameters in [
        &[][..],
        &["sslmode=allow"],
        &["sslmode=prefer"],
        &["sslmode=prefer", &roots],
        &["sslmode=require"],
        &["sslmode=require", &roots, "channel_binding=require"],
        &["sslmode=verify-ca", &roots],
        &["sslmode=verify-full", &roots],
    ] {
        assert_eq!(list(database, parameters).well(), "[]\n", "{parameters:?}");
    }
    let said = list(database, &["sslmode=disable"]).with(1);
    assert!(said.contains("no pg_hba.conf entry"), "{said}");
}

#[test]
fn a_server_that_another_authority_has_signed_is_refused() {
    let (_, database) = shared();
    for (name, other) in [("same-name", Authority::new()), ("other-name", Authority::named("another"))] {
        let file = File::new(name, &other.certificate);
        for mode in ["require", "verify-ca", "verify-full"] {
            let said = list(database, &[&format!("sslmode={mode}"), &roots(&file)]).with(1);
            assert!(said.contains(&format!("no certificate in {} has signed the server's", file.path())), "{said}");
        }
    }
}

#[test]
fn a_server_of_another_name_is_refused_by_verify_full_only() {
    let (authority, database) = shared();
    let file = File::new("name", &authority.certificate);
    let by_address = |mode: &str| {
        let address = format!("{}?sslmode={mode}&{}", database.url(), roots(&file));
        without_password(database, run(program(&["--database-url", &address, "list_jobs"])))
    };
    by_address("verify-ca").well();
    let said = by_address("verify-full").with(1);
    assert!(said.contains("127.0.0.1") && said.contains("only valid for DnsName(\"localhost\")"), "{said}");
}

#[test]
fn without_encryption_on_the_server_require_is_refused_and_prefer_falls_back() {
    let database = database();
    run(to(&database, &["sslmode=prefer"], &["list_jobs"])).well();
    run(to(&database, &[], &["list_jobs"])).well();
    let said = list(&database, &["sslmode=require"]).with(1);
    assert!(said.contains("server does not support TLS"), "{said}");
}

#[test]
fn a_role_that_may_not_use_encryption_is_reached_by_the_modes_that_allow_that() {
    let (_, database) = shared();
    let (_, server) = database.url().split_once('@').unwrap();
    let list = |mode: &str| {
        let address = format!("postgres://plain:s3cret@{server}?sslmode={mode}");
        without_password(database, run(program(&["--database-url", &address, "list_jobs"])))
    };
    for mode in ["disable", "allow", "prefer"] {
        list(mode).well();
    }
    assert!(list("require").with(1).contains("no pg_hba.conf entry"));
    let wrong = run(program(&["--database-url", &format!("postgres://nobody:s3cret@{server}"), "list_jobs"])).with(1);
    assert!(wrong.contains("; then "), "both attempts are reported: {wrong}");
}

#[test]
fn a_wrong_password_is_not_sent_again_without_encryption() {
    let (_, database) = shared();
    let (_, server) = database.url().split_once('@').unwrap();
    let address = format!("postgres://application:s3cret@{server}?sslmode=prefer");
    let said = without_password(database, run(program(&["--database-url", &address, "list_jobs"]))).with(1);
    assert!(said.contains("password authentication failed") && !said.contains("; then "), "{said}");
}

#[test]
fn the_variables_of_libpq_count_where_the_address_says_nothing() {
    let (authority, database) = shared();
    let file = File::new("variables", &authority.certificate);
    let with = |parameters: &[&str], variables: &[(&str, &str)]| {
        let mut command = to(database, parameters, &["list_jobs", "--json"]);
        command.envs(variables.iter().copied());
        without_password(database, run(command))
    };
    with(&[], &[("PGSSLMODE", "disable")]).with(1);
    with(&["sslmode=require"], &[("PGSSLMODE", "disable")]).well();
    with(&[], &[("PGSSLMODE", "verify-full"), ("PGSSLROOTCERT", file.path())]).well();
    with(&[&roots(&file)], &[("PGSSLMODE", "verify-full"), ("PGSSLROOTCERT", "/nowhere")]).well();

    // The same without an address.
    let parts: Vec<&str> = database.url().split(['/', ':', '@']).collect();
    let [_, _, _, user, password, _, port, name] = *parts else { panic!("{parts:?}") };
    let mut command = program(&["list_jobs"]);
    command.envs([("PGHOST", "localhost"), ("PGPORT", port), ("PGUSER", user), ("PGPASSWORD", password)]);
    command.envs([("PGDATABASE", name), ("PGSSLMODE", "verify-full"), ("PGSSLROOTCERT", file.path())]);
    without_password(database, run(command)).well();
}

#[test]
fn the_certificate_in_the_home_directory_is_used_if_none_is_named() {
    let (authority, database) = shared();
    let home = std::env::temp_dir().join(format!("procrastinate-tls-home-{}", std::process::id()));
    let folder = home.join(".postgresql");
    std::fs::create_dir_all(&folder).unwrap();
    let with = |mode: &str, certificate: &str| {
        std::fs::write(folder.join("root.crt"), certificate).unwrap();
        let mut command = to(database, &[&format!("sslmode={mode}")], &["list_jobs"]);
        command.env("HOME", &home);
        without_password(database, run(command))
    };
    with("verify-full", &authority.certificate).well();
    let wrong = Authority::new();
    with("verify-full", &wrong.certificate).with(1);
    with("require", &wrong.certificate).with(1);
    std::fs::remove_dir_all(&home).unwrap();
}

#[test]
fn the_certificates_of_the_system_verify_the_server_and_its_name() {
    let (authority, database) = shared();
    let (right, wrong) =
        (File::new("system", &authority.certificate), File::new("other", &Authority::new().certificate));
    let with = |parameters: &[&str], file: &File| {
        let mut command = to(database, &[&["sslrootcert=system"], parameters].concat(), &["list_jobs"]);
        command.env("SSL_CERT_FILE", file.path());
        without_password(database, run(command))
    };
    with(&[], &right).well();
    with(&["sslmode=verify-full"], &right).well();
    let said = with(&[], &wrong).with(1);
    assert!(said.contains("no certificate of the operating system has signed the server's"), "{said}");
    let said = with(&["sslmode=require"], &right).with(2);
    assert!(said.contains("must be verify-full with sslrootcert=system"), "{said}");
}

#[test]
fn settings_that_cannot_work_are_refused_with_what_to_do() {
    let (_, database) = shared();
    let empty = File::new("empty", "no certificate");
    let is_refused = |parameters: &[&str], status: i32, reason: &str| {
        let said = list(database, parameters).with(status);
        assert!(said.contains(reason), "{parameters:?}: {said}");
    };
    is_refused(&["sslmode=secure"], 2, "invalid sslmode in the database address: must be disable, allow");
    is_refused(&["sslmode=verify-full"], 1, "set sslrootcert to the file of your CA");
    is_refused(&["sslmode=verify-ca"], 1, "set sslrootcert to the file of your CA");
    is_refused(&["sslrootcert=/nowhere/ca.crt"], 1, "/nowhere/ca.crt: the file does not exist");
    is_refused(&["sslmode=require", &roots(&empty)], 1, "it contains no certificate in PEM format");
    is_refused(&["sslcert=/nowhere/client.crt"], 2, "unknown option `sslcert`");
    let mut command = on(database, &["list_jobs"]);
    command.env("PGSSLMODE", "secure");
    assert!(run(command).with(2).contains("invalid sslmode in the environment variable PGSSLMODE"));
}

#[test]
fn a_certificate_that_has_expired_is_refused_if_it_is_verified() {
    let authority = Authority::new();
    let server = authority.server(|params| params.not_after = date_time_ymd(2020, 1, 1));
    let database = server.create_database("tls").unwrap();
    let file = File::new("expired", &authority.certificate);
    run(to(&database, &["sslmode=require"], &["schema", "apply"])).well();
    let said = list(&database, &["sslmode=verify-ca", &roots(&file)]).with(1);
    assert!(said.contains("expired"), "{said}");
}

#[test]
fn a_certificate_of_version_1_is_used_if_it_is_not_verified() {
    let authority = Authority::new();
    let key = KeyPair::generate().unwrap();
    let signed = of_an_authority().signed_by(&key, &authority.issuer).unwrap();
    let mut certificate = Certificate::from_der(signed.der()).unwrap();
    certificate.tbs_certificate.version = Version::V1;
    certificate.tbs_certificate.extensions = None;
    let server = server(&certificate.to_pem(LineEnding::LF).unwrap(), &key);
    let database = server.create_database("tls").unwrap();
    let file = File::new("version", &authority.certificate);
    run(to(&database, &["sslmode=require", "channel_binding=require"], &["schema", "apply"])).well();
    let said = list(&database, &["sslmode=verify-ca", &roots(&file)]).with(1);
    assert!(said.contains("the server's certificate must be of version 3"), "{said}");
}

#[test]
fn a_certificate_can_be_its_own_root() {
    let key = KeyPair::generate().unwrap();
    let certificate = of_an_authority().self_signed(&key).unwrap().pem();
    let file = File::new("own", &certificate);
    let server = server(&certificate, &key);
    let database = server.create_database("tls").unwrap();
    run(to(&database, &["sslmode=verify-full", &roots(&file)], &["schema", "apply"])).well();
    let address = format!("{}?sslmode=verify-full&{}", database.url(), roots(&file));
    let said = run(program(&["--database-url", &address, "list_jobs"])).with(1);
    assert!(said.contains("only valid for DnsName(\"localhost\")"), "{said}");
    let other = File::new("own-other", &Authority::new().certificate);
    assert!(list(&database, &["sslmode=verify-ca", &roots(&other)]).with(1).contains("invalid peer certificate"));
}
