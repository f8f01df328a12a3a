package money_test

import (
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/parleyhq/parley/pkg/money"
	typev1 "github.com/parleyhq/parley/proto/gen/parley/type/v1"
)

func eur(units int64, nanos int32) *typev1.Money {
	return &typev1.Money{CurrencyCode: "EUR", Units: units, Nanos: nanos}
}

func requireSame(t *testing.T, want, got *typev1.Money) {
	t.Helper()
	require.Empty(t, cmp.Diff(want, got, protocmp.Transform()))
}

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]*typev1.Money{
		"0": eur(0, 0), "-0": eur(0, 0), "0.000e10": eur(0, 0), "1": eur(1, 0), "+1": eur(1, 0), "007": eur(7, 0),
		"39.9": eur(39, 900_000_000), "-39.90": eur(-39, -900_000_000), "1.5": eur(1, 500_000_000),
		"0.000000001": eur(0, 1), "-0.000000001": eur(0, -1), "0.0000000010": eur(0, 1), "1e-9": eur(0, 1),
		"1.5e3": eur(1500, 0), "1.5E+3": eur(1500, 0), "15e-1": eur(1, 500_000_000), "123456789e-10": eur(0, 12_345_679),
		"1000000000000000": eur(1e15, 0), "-1e15": eur(-1e15, 0), "0.0000001e22": eur(1e15, 0),
		"999999999999999.999999999":               eur(999_999_999_999_999, 999_999_999),
		"1" + strings.Repeat("0", 200) + "e-200":  eur(1, 0),
		"0." + strings.Repeat("0", 200) + "1e201": eur(1, 0),
		"0e999999999999999999999":                 eur(0, 0),
	} {
		if text == "123456789e-10" {
			_, err := money.Parse("EUR", text)
			require.ErrorIs(t, err, money.ErrPrecision)
			got, err := money.ParseNearest("EUR", text)
			require.NoError(t, err)
			requireSame(t, want, got)
			continue
		}
		got, err := money.Parse("EUR", text)
		require.NoError(t, err, text)
		requireSame(t, want, got)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]error{
		"": money.ErrSyntax, "-": money.ErrSyntax, ".5": money.ErrSyntax, "5.": money.ErrSyntax, "1e": money.ErrSyntax, "e1": money.ErrSyntax,
		"NaN": money.ErrSyntax, "Infinity": money.ErrSyntax, "-inf": money.ErrSyntax, "0x10": money.ErrSyntax, "1,5": money.ErrSyntax,
		"1 000": money.ErrSyntax, "1_000": money.ErrSyntax, "٣": money.ErrSyntax, "1.2.3": money.ErrSyntax, "--1": money.ErrSyntax, "1e1.5": money.ErrSyntax,
		strings.Repeat("0", 1000):            money.ErrSyntax,
		"1000000000000000.000000001":         money.ErrRange,
		"1000000000000001":                   money.ErrRange,
		"-1000000000000001":                  money.ErrRange,
		"9999999999999999":                   money.ErrRange,
		"1e16":                               money.ErrRange,
		"1e999999999999999999999":            money.ErrRange,
		"1.0000000001":                       money.ErrPrecision,
		"0.30000000000000004":                money.ErrPrecision,
		"1e-999999999999999999999":           money.ErrPrecision,
		"0." + strings.Repeat("0", 99) + "1": money.ErrPrecision,
	} {
		_, err := money.Parse("EUR", text)
		require.ErrorIs(t, err, want, text)
	}
	spaced, err := money.Parse("EUR", " 1.5\t")
	require.NoError(t, err)
	requireSame(t, eur(1, 500_000_000), spaced)
	for _, currency := range []string{"", "EU", "EURO", "E1R", "€", "ÄÖÜ"} {
		_, err := money.Parse(currency, "1")
		require.ErrorIs(t, err, money.ErrCurrency, currency)
	}
	got, err := money.Parse(" usd ", "1")
	require.NoError(t, err)
	require.Equal(t, "USD", got.GetCurrencyCode())
}

func TestParseNearest(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]*typev1.Money{
		"0.30000000000000004": eur(0, 300_000_000), "19.990000000000002": eur(19, 990_000_000), "1.1": eur(1, 100_000_000),
		"0.0000000005": eur(0, 1), "-0.0000000005": eur(0, -1), "0.00000000049": eur(0, 0), "0.9999999995": eur(1, 0),
		"-0.9999999999": eur(-1, 0), "1e-300": eur(0, 0), "999999999999999.9999999999": eur(1e15, 0),
	} {
		got, err := money.ParseNearest("EUR", text)
		require.NoError(t, err)
		requireSame(t, want, got)
	}
	_, err := money.ParseNearest("EUR", "1000000000000000.0000000005")
	require.ErrorIs(t, err, money.ErrRange)
}

func TestAdd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ a, b, want *typev1.Money }{
		{nil, nil, nil},
		{eur(1, 0), nil, eur(1, 0)},
		{nil, eur(1, 0), eur(1, 0)},
		{eur(1, 500_000_000), eur(1, 500_000_000), eur(3, 0)},
		{eur(0, 999_999_999), eur(0, 999_999_999), eur(1, 999_999_998)},
		{eur(1, 0), eur(0, -1), eur(0, 999_999_999)},
		{eur(-1, 0), eur(0, 1), eur(0, -999_999_999)},
		{eur(-1, -500_000_000), eur(2, 0), eur(0, 500_000_000)},
		{eur(5, 100), eur(-5, -100), eur(0, 0)},
		{eur(1e15-1, 0), eur(1, 0), eur(1e15, 0)},
	} {
		a, b := proto.CloneOf(c.a), proto.CloneOf(c.b)
		got, err := money.Add(c.a, c.b)
		require.NoError(t, err)
		requireSame(t, c.want, got)
		got, err = money.Add(c.b, c.a)
		require.NoError(t, err)
		requireSame(t, c.want, got)
		requireSame(t, a, c.a)
		requireSame(t, b, c.b)
		if got != nil {
			require.NotSame(t, c.a, got)
			require.NotSame(t, c.b, got)
		}
	}
	for _, c := range []struct {
		a, b *typev1.Money
		want error
	}{
		{eur(1, 0), &typev1.Money{CurrencyCode: "USD", Units: 1}, money.ErrCurrency},
		{eur(1e15, 0), eur(0, 1), money.ErrRange},
		{eur(-1e15, 0), eur(-1, 0), money.ErrRange},
		{eur(math.MaxInt64, 0), eur(1, 0), money.ErrRange},
		{eur(1, -1), eur(1, 0), money.ErrMalformed},
		{eur(1, 1_000_000_000), nil, money.ErrMalformed},
		{&typev1.Money{}, nil, money.ErrCurrency},
	} {
		_, err := money.Add(c.a, c.b)
		require.ErrorIs(t, err, c.want)
	}
}

func TestSubNegSign(t *testing.T) {
	t.Parallel()
	got, err := money.Sub(eur(1, 0), eur(0, 1))
	require.NoError(t, err)
	requireSame(t, eur(0, 999_999_999), got)
	got, err = money.Sub(nil, eur(1, 2))
	require.NoError(t, err)
	requireSame(t, eur(-1, -2), got)
	require.Nil(t, money.Neg(nil))
	for m, want := range map[*typev1.Money]int{nil: 0, eur(0, 0): 0, eur(0, 1): 1, eur(0, -1): -1, eur(5, 0): 1, eur(-5, -1): -1} {
		require.Equal(t, want, money.Sign(m))
		require.Equal(t, -want, money.Sign(money.Neg(m)))
		require.Equal(t, want == 0, money.IsZero(m))
	}
}

func TestFormat(t *testing.T) {
	t.Parallel()
	for want, m := range map[string]*typev1.Money{
		"": nil, "39.90 EUR": eur(39, 900_000_000), "-0.50 EUR": eur(0, -500_000_000), "0.00 EUR": eur(0, 0),
		"1.000000001 EUR": eur(1, 1), "1.125 EUR": eur(1, 125_000_000), "-1000000000000000.00 EUR": eur(-1e15, 0),
		"4200 JPY": {CurrencyCode: "JPY", Units: 4200}, "0.5 JPY": {CurrencyCode: "JPY", Nanos: 500_000_000},
		"1.500 KWD":                   {CurrencyCode: "KWD", Units: 1, Nanos: 500_000_000},
		"-9223372036854775808.00 EUR": eur(math.MinInt64, 0),
	} {
		require.Equal(t, want, money.Format(m))
	}
}

// FuzzParse holds parsing to exact rational arithmetic.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"0", "-39.90", "1.5e3", "0.30000000000000004", "1e-9", "9e15", "1e", "", "-1e15", "0.9999999995"} {
		f.Add(s)
	}
	limit := big.NewRat(money.MaxUnits, 1)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := money.Parse("EUR", text)
		nearest, nearestErr := money.ParseNearest("EUR", text)
		if nearestErr == nil {
			require.NoError(t, money.Check(nearest))
		}
		if err != nil {
			return
		}
		requireSame(t, got, nearest)
		value := rat(got)
		require.LessOrEqual(t, new(big.Rat).Abs(value).Cmp(limit), 0)
		// Above this the exact value of an exponent takes too long to compute.
		if i := strings.IndexAny(text, "eE"); i < 0 || len(text)-i < 5 {
			exact, ok := new(big.Rat).SetString(strings.TrimSpace(text))
			require.True(t, ok)
			require.Zero(t, exact.Cmp(value))
		}
		again, err := money.Parse("EUR", money.Decimal(got))
		require.NoError(t, err)
		requireSame(t, got, again)
		zero, err := money.Add(got, money.Neg(got))
		require.NoError(t, err)
		require.True(t, money.IsZero(zero))
	})
}

func rat(m *typev1.Money) *big.Rat {
	units := new(big.Rat).SetInt64(m.GetUnits())
	return units.Add(units, big.NewRat(int64(m.GetNanos()), 1_000_000_000))
}
