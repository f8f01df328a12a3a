// Package money does exact arithmetic on typev1.Money.
//
// An amount is units + nanos/1e9 in one currency, both parts of one sign, with
// at most 10^15 whole units either way: the bounds of the contract. Nothing
// here goes through a binary floating-point number; what cannot be represented
// is an error, never a rounded amount, except where a function says that it
// rounds. Messages handed in are never changed.
package money
