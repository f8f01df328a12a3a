// Package demo plays a recorded day of a shop's web traffic against a tracking
// API, and says what there is to see afterwards.
//
// Contract: the day is fixed, with the messageIds and the times that it was recorded
// with, so playing it again adds nothing. It goes through the front door, over HTTP, as
// the requests of a dozen visitors came. Whoever plays it waits by himself
// until it is visible.
package demo
