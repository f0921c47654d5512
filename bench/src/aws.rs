//! S3, SNS and Kinesis as far as the functions need them: they take objects, notices and records, over TLS, on this
//! machine.
//!
//! Each has an address of its own, so that a function shakes hands with each, as it does in AWS.

use std::{
    io::BufReader,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use base64::{Engine as _, prelude::BASE64_STANDARD as STANDARD};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned, crypto::ring, pki_types::PrivatePkcs8KeyDer, version::TLS13,
};
use serde::Deserialize;

use crate::{
    Error,
    http::{Request, respond},
};

const PUBLISHED: &str = "<PublishResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishResult>\
    <MessageId>94f20ce6-13c5-43a0-9a9e-ca52d816e90b</MessageId></PublishResult><ResponseMetadata>\
    <RequestId>f187a3c1-376f-11df-8963-01868b7c937a</RequestId></ResponseMetadata></PublishResponse>";

/// What the services took.
#[derive(Debug, Default)]
pub struct Taken {
    /// The bodies of all objects.
    pub objects: Vec<Vec<u8>>,
    /// How many notices.
    pub notices: usize,
    /// The data of all records.
    pub records: Vec<Vec<u8>>,
}

/// Takes a request, and gives the headers and the body of its answer.
type Service = fn(Request, &mut Taken) -> Result<(&'static str, Vec<u8>), Error>;

/// The services. They run as long as the process.
#[derive(Debug)]
pub struct Aws {
    s3: SocketAddr,
    sns: SocketAddr,
    kinesis: SocketAddr,
    roots: PathBuf,
    no_roots: PathBuf,
    taken: Arc<Mutex<Taken>>,
}

impl Aws {
    /// Starts all services with a certificate of a CA that is created here. Functions get a bundle of this CA and
    /// `public_roots`, because reading a bundle of ordinary size is part of every cold start.
    pub fn start(folder: &Path, public_roots: &Path) -> Result<Self, Error> {
        let mut authority = CertificateParams::new([])?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        authority.distinguished_name.push(DnType::CommonName, "Landfall benchmark authority");
        let authority_key = KeyPair::generate()?;
        let authority_pem = authority.self_signed(&authority_key)?.pem();
        let mut server = CertificateParams::new(["127.0.0.1".to_owned()])?;
        server.use_authority_key_identifier_extension = true;
        server.distinguished_name.push(DnType::CommonName, "Landfall benchmark");
        let key = KeyPair::generate()?;
        let certificate = server.signed_by(&key, &Issuer::new(authority, authority_key))?;
        let tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())?;
        let tls = Arc::new(tls);

        let (roots, no_roots) = (folder.join("roots.pem"), folder.join("no-roots"));
        std::fs::create_dir_all(&no_roots)?;
        std::fs::write(&roots, std::fs::read_to_string(public_roots)? + "\n" + &authority_pem)?;
        let taken = Arc::new(Mutex::new(Taken::default()));
        let serve = |service| serve(service, &tls, &taken);
        let (s3, sns, kinesis) = (serve(s3)?, serve(sns)?, serve(kinesis)?);
        Ok(Self { s3, sns, kinesis, roots, no_roots, taken })
    }

    /// The variables by which any SDK finds and trusts them.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 6] {
        let roots = self.roots.display().to_string();
        [
            ("AWS_ENDPOINT_URL_S3", format!("https://{}", self.s3)),
            ("AWS_ENDPOINT_URL_SNS", format!("https://{}", self.sns)),
            ("AWS_ENDPOINT_URL_KINESIS", format!("https://{}", self.kinesis)),
            ("AWS_CA_BUNDLE", roots.clone()),
            ("SSL_CERT_FILE", roots),
            // Otherwise the folder of this machine would be read as well.
            ("SSL_CERT_DIR", self.no_roots.display().to_string()),
        ]
    }

    /// What has been taken since the last time.
    #[must_use]
    pub fn take(&self) -> Taken {
        std::mem::take(&mut *self.taken.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn serve(service: Service, tls: &Arc<ServerConfig>, taken: &Arc<Mutex<Taken>>) -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (tls, taken) = (tls.clone(), taken.clone());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (tls, taken) = (tls.clone(), taken.clone());
            // A connection ends when the function is killed; its error says nothing more.
            thread::spawn(move || connection(stream, tls, service, &taken).ok());
        }
    });
    Ok(address)
}

fn connection(stream: TcpStream, tls: Arc<ServerConfig>, service: Service, taken: &Mutex<Taken>) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(tls)?, stream));
    while let Some(request) = Request::read(&mut stream)? {
        let (headers, body) = service(request, &mut taken.lock().unwrap_or_else(PoisonError::into_inner))?;
        respond(stream.get_mut(), "200 OK", headers, &body)?;
    }
    Ok(())
}

fn s3(request: Request, taken: &mut Taken) -> Result<(&'static str, Vec<u8>), Error> {
    taken.objects.push(request.body);
    Ok(("ETag: \"5d41402abc4b2a76b9719d911017c592\"\r\n", Vec::new()))
}

fn sns(_: Request, taken: &mut Taken) -> Result<(&'static str, Vec<u8>), Error> {
    taken.notices += 1;
    Ok(("Content-Type: text/xml\r\n", PUBLISHED.into()))
}

/// `PutRecords`, and `PutRecord`, whose answer is that of its one record.
fn kinesis(request: Request, taken: &mut Taken) -> Result<(&'static str, Vec<u8>), Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Put {
        Records {
            #[serde(rename = "Records")]
            records: Vec<Record>,
        },
        Record(Record),
    }
    #[derive(Deserialize)]
    struct Record {
        #[serde(rename = "Data")]
        data: String,
    }
    let stored = r#"{"SequenceNumber":"49590338271490256608559692538361571095921575989136588898","ShardId":"shardId-000000000000"}"#;
    let (records, answer) = match serde_json::from_slice(&request.body)? {
        Put::Record(record) => (vec![record], stored.to_owned()),
        Put::Records { records } => {
            let answer = vec![stored; records.len()].join(",");
            (records, format!(r#"{{"FailedRecordCount":0,"Records":[{answer}]}}"#))
        }
    };
    for record in records {
        taken.records.push(STANDARD.decode(record.data)?);
    }
    Ok(("Content-Type: application/x-amz-json-1.1\r\n", answer.into()))
}
