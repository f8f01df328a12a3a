// Package projectiontest proves what the engine relies on, for any projection
// about customers: that its functions keep the laws of fold, combine and
// finish (Laws), and that the engine computes the same from the same events in
// whatever portions (Agree). Events can be written as text, one a line (Events).
package projectiontest
