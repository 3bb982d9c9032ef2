"""A Stripe billing backend: contracts in front, Stripe behind, one DynamoDB table between.

Imports point one way: functions → endpoint, event_processor, checkout → auth, store, payments, contracts → domain.
"""
