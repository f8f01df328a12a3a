package money

import (
	"fmt"
	"strings"

	typev1 "github.com/parleyhq/parley/proto/gen/parley/type/v1"
)

// number is a decimal number in pieces: 0.digits × 10^point, digits without
// leading zeros.
type number struct {
	negative bool
	digits   string
	point    int
}

// parse reads an amount and rounds what lies beyond a billionth; exact says
// that nothing did.
func parse(currency, decimal string) (m *typev1.Money, exact bool, err error) {
	code := strings.ToUpper(strings.TrimSpace(currency))
	if !validCurrency(code) {
		return nil, false, fmt.Errorf("parse amount: %w code %s", ErrCurrency, clipped(currency))
	}
	n, ok := scan(strings.TrimSpace(decimal))
	if !ok {
		return nil, false, fmt.Errorf("parse amount %s: %w", clipped(decimal), ErrSyntax)
	}
	if n.digits == "" {
		return &typev1.Money{CurrencyCode: code}, true, nil
	}
	if n.point > maxUnitDigits {
		return nil, false, fmt.Errorf("parse amount %s: %w", clipped(decimal), ErrRange)
	}
	units := window[int64](n, 0, n.point)
	nanos := window[int32](n, max(n.point, 0), n.point+nanoDigits)
	exact = n.point+nanoDigits >= len(n.digits)
	if !exact && n.at(n.point+nanoDigits) >= 5 {
		nanos++
	}
	if n.negative {
		units, nanos = -units, -nanos
	}
	m, err = build(code, units, nanos)
	if err != nil {
		return nil, false, fmt.Errorf("parse amount %s: %w", clipped(decimal), err)
	}
	return m, exact, nil
}

// window reads the digits from index from up to to as a number; digits beyond
// the end are zeros. At most 16 digits are asked for as an int64, 9 as an int32.
func window[T int32 | int64](n number, from, to int) T {
	var v T
	for i := from; i < to; i++ {
		v = v*10 + T(n.at(i))
	}
	return v
}

// at is the digit at an index, zero outside.
func (n number) at(i int) byte {
	if i < 0 || i >= len(n.digits) {
		return 0
	}
	return n.digits[i] - '0'
}

// scan takes a number apart.
func scan(s string) (number, bool) {
	if len(s) > maxInput {
		return number{}, false
	}
	var n number
	if s != "" && (s[0] == '-' || s[0] == '+') {
		n.negative = s[0] == '-'
		s = s[1:]
	}
	whole, rest := leadingDigits(s)
	fraction := ""
	if rest != "" && rest[0] == '.' {
		if fraction, rest = leadingDigits(rest[1:]); fraction == "" {
			return number{}, false
		}
	}
	if whole == "" {
		return number{}, false
	}
	exponent, ok := scanExponent(rest)
	if !ok {
		return number{}, false
	}
	digits := whole + fraction
	n.point = len(whole) + exponent
	stripped := strings.TrimLeft(digits, "0")
	n.point -= len(digits) - len(stripped)
	n.digits = strings.TrimRight(stripped, "0")
	return n, true
}

func scanExponent(s string) (int, bool) {
	if s == "" {
		return 0, true
	}
	if s[0] != 'e' && s[0] != 'E' {
		return 0, false
	}
	s = s[1:]
	negative := false
	if s != "" && (s[0] == '-' || s[0] == '+') {
		negative = s[0] == '-'
		s = s[1:]
	}
	digits, rest := leadingDigits(s)
	if digits == "" || rest != "" {
		return 0, false
	}
	exponent := 0
	for i := range len(digits) {
		exponent = min(exponent*10+int(digits[i]-'0'), maxExponent)
	}
	if negative {
		exponent = -exponent
	}
	return exponent, true
}

func leadingDigits(s string) (digits, rest string) {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return s[:i], s[i:]
}
