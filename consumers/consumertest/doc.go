// Package consumertest tests a consumer without a bus: given events, when an event,
// then events.
package consumertest
