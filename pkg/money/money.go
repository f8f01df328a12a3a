package money

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	typev1 "github.com/parleyhq/parley/proto/gen/parley/type/v1"
)

// The ways in which an amount can be refused. Test with errors.Is.
var (
	// ErrSyntax says: not a decimal number.
	ErrSyntax = errors.New("not a decimal number")
	// ErrRange says: more than MaxUnits whole units either way.
	ErrRange = errors.New("amount out of range")
	// ErrPrecision says: finer than a billionth of a unit.
	ErrPrecision = errors.New("amount finer than a billionth")
	// ErrCurrency says: not an ISO 4217 code, or two amounts in different currencies.
	ErrCurrency = errors.New("currency")
	// ErrMalformed says: units and nanos of different signs, or nanos out of range.
	ErrMalformed = errors.New("malformed amount")
)

const (
	// MaxUnits is the largest whole amount either way.
	MaxUnits = 1_000_000_000_000_000

	nanosPerUnit = 1_000_000_000
	nanoDigits   = 9
	// maxUnitDigits is the number of digits of MaxUnits.
	maxUnitDigits = 16
	// maxInput bounds the text of a number; longer ones are no amounts.
	maxInput = 256
	// maxExponent bounds a decimal exponent well beyond what any amount needs.
	maxExponent = 1000
)

// Parse reads a decimal number as JSON writes it (`39.9`, `-1.5e3`; also with
// leading zeros, a plus sign or spaces around it) and a currency code, in either case. It is
// exact: digits beyond the ninth decimal place that are not zero are
// ErrPrecision. NaN and infinities are ErrSyntax.
func Parse(currency, decimal string) (*typev1.Money, error) {
	m, exact, err := parse(currency, decimal)
	if err != nil {
		return nil, err
	}
	if !exact {
		return nil, fmt.Errorf("parse amount %s: %w", clipped(decimal), ErrPrecision)
	}
	return m, nil
}

// ParseNearest is Parse for numbers that went through binary floating point on
// their way here, as JSON from a browser does (0.30000000000000004): it rounds
// to the nearest billionth, halves away from zero.
func ParseNearest(currency, decimal string) (*typev1.Money, error) {
	m, _, err := parse(currency, decimal)
	return m, err
}

// Add is a + b. Nil stands for nothing: the other one is the sum, and the sum
// of nothing is nil.
func Add(a, b *typev1.Money) (*typev1.Money, error) {
	switch {
	case a == nil && b == nil:
		return nil, nil
	case a == nil:
		return checkedCopy(b)
	case b == nil:
		return checkedCopy(a)
	}
	if a.GetCurrencyCode() != b.GetCurrencyCode() {
		return nil, fmt.Errorf("add %s to %s: %w differs",
			clipped(b.GetCurrencyCode()), clipped(a.GetCurrencyCode()), ErrCurrency)
	}
	if err := errors.Join(Check(a), Check(b)); err != nil {
		return nil, fmt.Errorf("add: %w", err)
	}
	// Bounded by Check: neither sum can overflow.
	m, err := build(a.GetCurrencyCode(), a.GetUnits()+b.GetUnits(), a.GetNanos()+b.GetNanos())
	if err != nil {
		return nil, fmt.Errorf("add: %w", err)
	}
	return m, nil
}

// Neg is -m; nil for nil.
func Neg(m *typev1.Money) *typev1.Money {
	if m == nil {
		return nil
	}
	return &typev1.Money{CurrencyCode: m.GetCurrencyCode(), Units: -m.GetUnits(), Nanos: -m.GetNanos()}
}

// Sub is a - b, with nil as in Add.
func Sub(a, b *typev1.Money) (*typev1.Money, error) { return Add(a, Neg(b)) }

// IsZero says that there is nothing: nil or an amount of zero.
func IsZero(m *typev1.Money) bool { return m.GetUnits() == 0 && m.GetNanos() == 0 }

// Sign is -1, 0 or 1; 0 for nil.
func Sign(m *typev1.Money) int {
	switch {
	case m.GetUnits() > 0 || (m.GetUnits() == 0 && m.GetNanos() > 0):
		return 1
	case IsZero(m):
		return 0
	default:
		return -1
	}
}

// Check says why a message is not an amount: bounds, signs, currency code. Nil
// is fine.
func Check(m *typev1.Money) error {
	if m == nil {
		return nil
	}
	if !validCurrency(m.GetCurrencyCode()) {
		return fmt.Errorf("%w code %s", ErrCurrency, clipped(m.GetCurrencyCode()))
	}
	units, nanos := m.GetUnits(), m.GetNanos()
	if nanos <= -nanosPerUnit || nanos >= nanosPerUnit || (units > 0 && nanos < 0) || (units < 0 && nanos > 0) {
		return fmt.Errorf("%d units and %d nanos: %w", units, nanos, ErrMalformed)
	}
	if outOfRange(units, nanos) {
		return fmt.Errorf("%d units: %w", units, ErrRange)
	}
	return nil
}

// Format is the amount for people: with the decimal places of its currency, or
// as many as it needs, and the code, for example `39.90 EUR`. Empty for nil.
func Format(m *typev1.Money) string {
	if m == nil {
		return ""
	}
	return Decimal(m) + " " + m.GetCurrencyCode()
}

// Decimal is the number of Format without the currency; Parse reads it back
// exactly. Empty for nil.
func Decimal(m *typev1.Money) string {
	if m == nil {
		return ""
	}
	sign := ""
	if m.GetUnits() < 0 || m.GetNanos() < 0 {
		sign = "-"
	}
	number := sign + magnitude(m.GetUnits())
	nanos := magnitude(int64(m.GetNanos()) % nanosPerUnit)
	fraction := strings.Repeat("0", nanoDigits-len(nanos)) + nanos
	places := max(minorDigits(m.GetCurrencyCode()), len(strings.TrimRight(fraction, "0")))
	if places == 0 {
		return number
	}
	return number + "." + fraction[:places]
}

// build brings units and nanos to one sign. |nanos| is under two units.
func build(currency string, units int64, nanos int32) (*typev1.Money, error) {
	units += int64(nanos / nanosPerUnit)
	nanos %= nanosPerUnit
	switch {
	case units > 0 && nanos < 0:
		units--
		nanos += nanosPerUnit
	case units < 0 && nanos > 0:
		units++
		nanos -= nanosPerUnit
	}
	if outOfRange(units, nanos) {
		return nil, fmt.Errorf("%d units: %w", units, ErrRange)
	}
	return &typev1.Money{CurrencyCode: currency, Units: units, Nanos: nanos}, nil
}

func checkedCopy(m *typev1.Money) (*typev1.Money, error) {
	if err := Check(m); err != nil {
		return nil, err
	}
	return &typev1.Money{CurrencyCode: m.GetCurrencyCode(), Units: m.GetUnits(), Nanos: m.GetNanos()}, nil
}

func outOfRange(units int64, nanos int32) bool {
	return units > MaxUnits || units < -MaxUnits ||
		(units == MaxUnits && nanos > 0) || (units == -MaxUnits && nanos < 0)
}

// magnitude is |n| in digits, also for the smallest number there is.
func magnitude(n int64) string { return strings.TrimPrefix(strconv.FormatInt(n, 10), "-") }

func validCurrency(code string) bool {
	if len(code) != 3 {
		return false
	}
	for i := range len(code) {
		if code[i] < 'A' || code[i] > 'Z' {
			return false
		}
	}
	return true
}

// minorDigits is the number of decimal places that ISO 4217 gives a currency.
func minorDigits(code string) int {
	switch code {
	case "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF",
		"UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF":
		return 0
	case "BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND":
		return 3
	default:
		return 2
	}
}

// clipped makes text from outside fit for an error message.
func clipped(s string) string {
	const most = 40
	if len(s) > most {
		return strconv.Quote(s[:most]) + "…"
	}
	return strconv.Quote(s)
}
