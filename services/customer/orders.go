package customer

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/parleyhq/parley/pkg/money"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	typev1 "github.com/parleyhq/parley/proto/gen/parley/type/v1"
)

// Sums of money in working form are exact at any size, so that adding is
// associative: of each sum the units from 0 to 10^18 stand under its key and what
// is above or below, in multiples of 10^18, under the key with highLimb behind
// it. Finishing joins the two and stops at what Money can say.
//
// A refund without an amount pays back its whole order, which may be known
// before it or after, or to another profile. So beside the sums, which have the
// currency's code as their key, a working form keeps amounts under the key
// `~<order id>~<currency>`: among the totals what the order came to, among the
// refunds what was paid back in part. Under `~<order id>~` it counts the orders
// without an amount and the refunds of all of it. Finishing takes the
// orders paid back as a whole, adds to the refunds what their parts have left, and
// drops these keys. A refund in full of an order that nobody has told of counts as a
// refund, but has no amount. `~` stands behind all letters, so the sums come
// first. The same keys say which orders a customer is searched by.
const (
	orderKey = "~"
	highLimb = "^"

	currencyLen  = 3
	limb         = 1_000_000_000_000_000_000
	nanosPerUnit = 1_000_000_000
)

func addOrder(doc *customerv1.Customer, ev *eventv1.Event, p *eventv1.OrderCompleted, at instant) {
	o := doc.GetOrders()
	if o == nil {
		o = &customerv1.OrderSummary{}
		doc.Orders = o
	}
	o.Count++
	total := p.GetTotal()
	if total == nil {
		// Many shops say only this.
		total = p.GetRevenue()
	}
	if isMoney(total) {
		o.Totals = addMoney(o.GetTotals(), total.GetCurrencyCode(), 0, total.GetUnits(), total.GetNanos())
		o.Totals = addOfOrder(o.GetTotals(), p.GetOrderId(), total.GetCurrencyCode(), total.GetUnits(), total.GetNanos())
	} else {
		total = nil
		o.WithoutAmountCount++
		o.Totals = addOfOrder(o.GetTotals(), p.GetOrderId(), "", 1, 0)
	}
	if last := o.GetLastOrder(); last == nil || compareSaid(last.GetOccurredTime(), last.GetEventId(), at, ev.GetId()) < 0 {
		o.LastOrder = &customerv1.LastOrder{
			OrderId: p.GetOrderId(), OccurredTime: at.proto(), Total: copyMoney(total), EventId: ev.GetId(),
		}
	}
}

func addRefund(doc *customerv1.Customer, p *eventv1.OrderRefunded) {
	o := doc.GetOrders()
	if o == nil {
		o = &customerv1.OrderSummary{}
		doc.Orders = o
	}
	o.RefundCount++
	switch amount := p.GetAmount(); {
	case amount == nil:
		o.Refunds = addOfOrder(o.GetRefunds(), p.GetOrderId(), "", 1, 0)
	case isMoney(amount):
		o.Refunds = addMoney(o.GetRefunds(), amount.GetCurrencyCode(), 0, amount.GetUnits(), amount.GetNanos())
		o.Refunds = addOfOrder(o.GetRefunds(), p.GetOrderId(), amount.GetCurrencyCode(), amount.GetUnits(), amount.GetNanos())
	}
}

// addOfOrder adds to what is kept of one order. An order without an id cannot
// be found again.
func addOfOrder(list []*typev1.Money, orderID, currency string, units int64, nanos int32) []*typev1.Money {
	if orderID == "" {
		return list
	}
	return addMoney(list, orderKey+orderID+orderKey+currency, 0, units, nanos)
}

// addMoney adds high * 10^18 + units + nanos / 10^9 to the sum of a key.
func addMoney(list []*typev1.Money, key string, high, units int64, nanos int32) []*typev1.Money {
	i, found := searchMoney(list, key)
	if !found {
		list = slices.Insert(list, i, &typev1.Money{CurrencyCode: key})
	}
	sum := list[i]
	carry, small := divide(int64(sum.GetNanos())+int64(nanos), nanosPerUnit)
	h1, u1 := divide(units, limb)
	h2, u2 := divide(u1+sum.GetUnits()+carry, limb)
	sum.Units, sum.Nanos = u2, int32(small)
	if high += h1 + h2; high != 0 {
		list = addHigh(list, i, key, high)
	}
	return capOrders(list)
}

// addHigh adds to the upper limb of the sum at i; it stands there only where it
// is not zero.
func addHigh(list []*typev1.Money, i int, key string, high int64) []*typev1.Money {
	j := i + 1
	if j == len(list) || list[j].GetCurrencyCode() != key+highLimb {
		return slices.Insert(list, j, &typev1.Money{CurrencyCode: key + highLimb, Units: high})
	}
	if list[j].Units += high; list[j].GetUnits() == 0 {
		return slices.Delete(list, j, j+1)
	}
	return list
}

// capOrders drops the orders beyond the limit. Upper limbs, which orders of an
// ordinary size have not, do not count.
func capOrders(list []*typev1.Money) []*typev1.Money {
	if len(list) <= maxOrdersKept {
		return list
	}
	kept := 0
	for i := sums(list); i < len(list); i++ {
		if strings.HasSuffix(list[i].GetCurrencyCode(), highLimb) {
			continue
		}
		if kept++; kept > maxOrdersKept {
			clear(list[i:])
			return list[:i]
		}
	}
	return list
}

// orderIDs are the ids of a document's orders, as far as they are kept, each
// once.
func orderIDs(doc *customerv1.Customer) []string {
	working, err := workingCopy(doc)
	if err != nil {
		// Not found by its orders; reading it tells the reason.
		return nil
	}
	var ids []string
	for _, list := range [...][]*typev1.Money{working.GetOrders().GetTotals(), working.GetOrders().GetRefunds()} {
		for _, m := range list[sums(list):] {
			key := m.GetCurrencyCode()[len(orderKey):]
			id := key[:strings.LastIndex(key, orderKey)]
			if len(ids) == 0 || ids[len(ids)-1] != id {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// sums is the number of entries that are sums by currency.
func sums(list []*typev1.Money) int {
	n, _ := searchMoney(list, orderKey)
	return n
}

func searchMoney(list []*typev1.Money, key string) (int, bool) {
	return slices.BinarySearchFunc(list, key, func(m *typev1.Money, key string) int {
		return cmp.Compare(m.GetCurrencyCode(), key)
	})
}

// mergeMoney adds other's sums to list's.
func mergeMoney(list, other []*typev1.Money) []*typev1.Money {
	for i := 0; i < len(other); i++ {
		m := other[i]
		var high int64
		if i+1 < len(other) && other[i+1].GetCurrencyCode() == m.GetCurrencyCode()+highLimb {
			i++
			high = other[i].GetUnits()
		}
		list = addMoney(list, m.GetCurrencyCode(), high, m.GetUnits(), m.GetNanos())
	}
	return list
}

// plainSums says that working and finished form of a list are the same: sums by
// currency alone, none below zero or beyond one limb.
func plainSums(list []*typev1.Money) bool {
	return !slices.ContainsFunc(list, func(m *typev1.Money) bool { return !isSum(m.GetCurrencyCode()) })
}

// isSum says that a key is that of a sum by currency, and not its upper limb.
func isSum(key string) bool { return len(key) == currencyLen && !strings.HasPrefix(key, orderKey) }

// finishOrders are the totals and the refunds of a working form as people see them.
func finishOrders(working *customerv1.OrderSummary) (totals, refunds []*typev1.Money) {
	refunds = working.GetRefunds()
	if !plainSums(refunds) {
		refunds = addWholeRefunds(cloneEach(refunds[:sums(refunds)], copyMoney), working)
	}
	return finishSums(working.GetTotals()), finishSums(refunds)
}

// addWholeRefunds adds to the refunds what the orders that were paid back as a
// whole came to, less what had been paid back of them in part.
func addWholeRefunds(refunds []*typev1.Money, working *customerv1.OrderSummary) []*typev1.Money {
	for _, whole := range working.GetRefunds()[sums(working.GetRefunds()):] {
		order := whole.GetCurrencyCode()
		if !strings.HasSuffix(order, orderKey) {
			continue
		}
		totals := working.GetTotals()
		for i, _ := searchMoney(totals, order); i < len(totals) && strings.HasPrefix(totals[i].GetCurrencyCode(), order); i++ {
			key := totals[i].GetCurrencyCode()
			if len(key) != len(order)+currencyLen {
				// The upper limb, or an order whose id begins with this one's.
				continue
			}
			left := subtract(sumAt(totals, key), sumAt(working.GetRefunds(), key))
			if left.high >= 0 {
				refunds = addMoney(refunds, key[len(order):], left.high, left.units, left.nanos)
			}
		}
	}
	return refunds
}

// sum is high * 10^18 + units + nanos / 10^9, with units and nanos not below 0:
// it is below zero when high is.
type sum struct {
	high, units int64
	nanos       int32
}

func sumAt(list []*typev1.Money, key string) sum {
	i, found := searchMoney(list, key)
	if !found {
		return sum{}
	}
	s := sum{units: list[i].GetUnits(), nanos: list[i].GetNanos()}
	if i++; i < len(list) && list[i].GetCurrencyCode() == key+highLimb {
		s.high = list[i].GetUnits()
	}
	return s
}

func subtract(a, b sum) sum {
	borrow, nanos := divide(int64(a.nanos)-int64(b.nanos), nanosPerUnit)
	high, units := divide(a.units-b.units+borrow, limb)
	return sum{high: a.high - b.high + high, units: units, nanos: int32(nanos)}
}

// finishSums joins the limbs and drops what is kept by order.
func finishSums(working []*typev1.Money) []*typev1.Money {
	n := sums(working)
	if n == 0 {
		return nil
	}
	finished := make([]*typev1.Money, 0, n)
	for i := range n {
		code := working[i].GetCurrencyCode()
		if !isSum(code) {
			continue
		}
		finished = append(finished, sumAt(working[i:n], code).money(code))
	}
	return finished
}

// money is the sum as Money says it, with one sign for units and nanos. Beyond
// what 64 bits hold it stays at the largest.
func (s sum) money(currency string) *typev1.Money {
	const mostLimbs = math.MaxInt64 / limb
	m := &typev1.Money{CurrencyCode: currency}
	switch {
	case s.high > mostLimbs, s.high == mostLimbs && s.units > math.MaxInt64-mostLimbs*limb:
		m.Units, m.Nanos = math.MaxInt64, nanosPerUnit-1
	case s.high < -mostLimbs:
		// At -10 limbs and below; at -9 the units only add to it.
		m.Units, m.Nanos = math.MinInt64+1, 1-nanosPerUnit
	default:
		m.Units, m.Nanos = s.high*limb+s.units, s.nanos
		if m.GetUnits() < 0 && m.GetNanos() > 0 {
			m.Units++
			m.Nanos -= nanosPerUnit
		}
	}
	return m
}

// isMoney says whether an amount counts: whole, within bounds and in a currency.
func isMoney(m *typev1.Money) bool { return m != nil && money.Check(m) == nil }

func copyMoney(m *typev1.Money) *typev1.Money {
	if m == nil {
		return nil
	}
	return &typev1.Money{CurrencyCode: m.GetCurrencyCode(), Units: m.GetUnits(), Nanos: m.GetNanos()}
}

// divide is a / by and the rest, which is never below zero.
func divide(a, by int64) (quotient, rest int64) {
	quotient, rest = a/by, a%by
	if rest < 0 {
		quotient, rest = quotient-1, rest+by
	}
	return quotient, rest
}
