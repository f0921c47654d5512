//! S3 and SNS as far as a cold start needs them: they take one object and one notice, over TLS, on this machine.
//!
//! Each has an address of its own, so that a function shakes hands twice, as it does in AWS.

use std::{
    io::BufReader,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned, crypto::ring, pki_types::PrivatePkcs8KeyDer, version::TLS13,
};

use crate::{
    Error,
    http::{Request, respond},
};

const PUBLISHED: &str = "<PublishResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishResult>\
    <MessageId>94f20ce6-13c5-43a0-9a9e-ca52d816e90b</MessageId></PublishResult><ResponseMetadata>\
    <RequestId>f187a3c1-376f-11df-8963-01868b7c937a</RequestId></ResponseMetadata></PublishResponse>";

/// What the two services took.
#[derive(Debug, Default)]
pub struct Taken {
    /// The bodies of all objects.
    pub objects: Vec<Vec<u8>>,
    /// How many notices.
    pub notices: usize,
}

/// The two services. They run as long as the process.
#[derive(Debug)]
pub struct Aws {
    s3: SocketAddr,
    sns: SocketAddr,
    roots: PathBuf,
    no_roots: PathBuf,
    taken: Arc<Mutex<Taken>>,
}

impl Aws {
    /// Starts both with a certificate of an authority that is made here. A function is to trust it beside
    /// `public_roots`, a bundle such as every system has, because reading one is a part of every cold start.
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
        Ok(Self { s3: serve(&tls, &taken)?, sns: serve(&tls, &taken)?, roots, no_roots, taken })
    }

    /// The variables by which any SDK finds and trusts the two.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 5] {
        let roots = self.roots.display().to_string();
        [
            ("AWS_ENDPOINT_URL_S3", format!("https://{}", self.s3)),
            ("AWS_ENDPOINT_URL_SNS", format!("https://{}", self.sns)),
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

fn serve(tls: &Arc<ServerConfig>, taken: &Arc<Mutex<Taken>>) -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (tls, taken) = (tls.clone(), taken.clone());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (tls, taken) = (tls.clone(), taken.clone());
            // A connection ends when the function is killed; its error says nothing more.
            thread::spawn(move || connection(stream, tls, &taken).ok());
        }
    });
    Ok(address)
}

fn connection(stream: TcpStream, tls: Arc<ServerConfig>, taken: &Mutex<Taken>) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(tls)?, stream));
    while let Some(request) = Request::read(&mut stream)? {
        let is_put = request.method == "PUT";
        {
            let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
            if is_put {
                taken.objects.push(request.body);
            } else {
                taken.notices += 1;
            }
        }
        if is_put {
            respond(stream.get_mut(), "200 OK", "ETag: \"5d41402abc4b2a76b9719d911017c592\"\r\n", b"")?;
        } else {
            respond(stream.get_mut(), "200 OK", "Content-Type: text/xml\r\n", PUBLISHED.as_bytes())?;
        }
    }
    Ok(())
}
