"""DynamoDB, Stripe, SQS and Secrets Manager behind the types of the domain. Vendor errors are translated here."""
