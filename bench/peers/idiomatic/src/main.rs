//! The function that a good team writes in Rust today, with the defaults of every crate.

mod encode;

use aws_config::BehaviorVersion;
use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use lambda_runtime::{Error, LambdaEvent, run, service_fn, tracing};

struct Function {
    s3: aws_sdk_s3::Client,
    sns: aws_sdk_sns::Client,
    bucket: String,
    topic_arn: String,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let function = &Function {
        s3: aws_sdk_s3::Client::new(&config),
        sns: aws_sdk_sns::Client::new(&config),
        bucket: std::env::var("LAKE_BUCKET")?,
        topic_arn: std::env::var("LANDED_TOPIC_ARN")?,
    };
    run(service_fn(|event: LambdaEvent<SqsEvent>| function.handle(event))).await
}

impl Function {
    async fn handle(&self, event: LambdaEvent<SqsEvent>) -> Result<SqsBatchResponse, Error> {
        let Some(first) = event.payload.records.first() else { return Ok(SqsBatchResponse::default()) };
        let key = format!("events/{}.parquet", first.message_id.as_deref().ok_or("no id")?);
        let file = encode::parquet(&encode::columns(&encode::messages(&event.payload)?)?)?;
        self.s3.put_object().bucket(&self.bucket).key(&key).body(file.into()).send().await?;
        self.sns.publish().topic_arn(&self.topic_arn).message(key).send().await?;
        Ok(SqsBatchResponse::default())
    }
}
