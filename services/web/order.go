package web

import (
	"math"
	"strconv"

	"github.com/parleyhq/parley/pkg/money"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	typev1 "github.com/parleyhq/parley/proto/gen/parley/type/v1"
)

// An order is never lost over an amount: one that is no amount, or has no
// currency, is left out, and stands in the properties as it was said.

// maxOrderLines as the contract bounds them; further ones are in the properties only.
const maxOrderLines = 500

// orderProperties are the properties of an order as they were written.
type orderProperties struct {
	orderID, currency, coupon, affiliation                         string
	total, revenue, value, tax, shipping, discount, amount, refund string
	products                                                       string
}

func (m *message) orderProperties() orderProperties {
	var p orderProperties
	if m.properties == "" {
		return p
	}
	for name, value := range members(m.properties) {
		switch unquote(name) {
		case "order_id", "orderId":
			set(&p.orderID, value)
		case "currency":
			set(&p.currency, value)
		case "coupon":
			set(&p.coupon, value)
		case "affiliation":
			set(&p.affiliation, value)
		case "total":
			set(&p.total, value)
		case "revenue":
			set(&p.revenue, value)
		case "value":
			set(&p.value, value)
		case "tax":
			set(&p.tax, value)
		case "shipping":
			set(&p.shipping, value)
		case "discount":
			set(&p.discount, value)
		case "amount":
			set(&p.amount, value)
		case "refund":
			set(&p.refund, value)
		case "products":
			if isArray(value) {
				p.products = value
			}
		default:
		}
	}
	return p
}

// amounts makes amounts in one currency.
type amounts struct{ currency string }

func (p *orderProperties) amounts(key *Key) amounts {
	if p.currency != "" {
		return amounts{p.currency}
	}
	return amounts{key.DefaultCurrency}
}

// of reads an amount; nil for what is none. Numbers from a browser went
// through binary floating point, hence to the nearest billionth.
func (a amounts) of(text string) *typev1.Money {
	if text == "" || a.currency == "" {
		return nil
	}
	amount, err := money.ParseNearest(a.currency, text)
	if err != nil {
		return nil
	}
	return amount
}

func (m *message) orderCompleted(key *Key) *eventv1.OrderCompleted {
	p := m.orderProperties()
	a := p.amounts(key)
	order := &eventv1.OrderCompleted{
		OrderId:        p.orderID,
		Total:          a.of(p.total),
		Revenue:        a.of(p.revenue),
		Tax:            a.of(p.tax),
		Shipping:       a.of(p.shipping),
		Discount:       a.of(p.discount),
		Coupon:         cut(p.coupon, 256),
		Affiliation:    cut(p.affiliation, 256),
		Lines:          a.lines(p.products),
		PropertiesJson: m.properties,
	}
	if order.Total == nil {
		order.Total = a.total(&p, order)
	}
	return order
}

// total of an order that does not say it: by the e-commerce specification
// revenue is the total without tax and shipping; value is what older clients
// say for the total. Nothing is computed from an amount that was said and is none.
func (a amounts) total(p *orderProperties, order *eventv1.OrderCompleted) *typev1.Money {
	if p.total != "" {
		return nil
	}
	if order.GetRevenue() == nil {
		return a.of(p.value)
	}
	if (order.GetTax() == nil && p.tax != "") || (order.GetShipping() == nil && p.shipping != "") {
		return nil
	}
	sum, err := money.Add(order.GetRevenue(), order.GetTax())
	if err == nil {
		sum, err = money.Add(sum, order.GetShipping())
	}
	if err != nil {
		return nil
	}
	return sum
}

func (m *message) orderRefunded(key *Key) *eventv1.OrderRefunded {
	p := m.orderProperties()
	a := p.amounts(key)
	refunded := &eventv1.OrderRefunded{OrderId: p.orderID, Lines: a.lines(p.products), PropertiesJson: m.properties}
	for _, text := range []string{p.total, p.refund, p.amount, p.value, p.revenue} {
		if text != "" {
			refunded.Amount = a.of(text)
			break
		}
	}
	return refunded
}

func (a amounts) lines(products string) []*eventv1.OrderLine {
	if products == "" {
		return nil
	}
	var lines []*eventv1.OrderLine
	for product := range elements(products) {
		if len(lines) == maxOrderLines {
			break
		}
		if isObject(product) {
			lines = append(lines, a.line(product))
		}
	}
	return lines
}

func (a amounts) line(product string) *eventv1.OrderLine {
	// A line that does not say how many is one.
	line := &eventv1.OrderLine{Quantity: 1}
	var id, price string
	for name, value := range members(product) {
		switch unquote(name) {
		case "product_id", "productId":
			set(&line.ProductId, value)
		case "id":
			set(&id, value)
		case "sku":
			set(&line.Sku, value)
		case "name":
			set(&line.Name, value)
		case "category":
			set(&line.Category, value)
		case "quantity":
			if n, err := strconv.ParseFloat(plainText(value), 64); err == nil && !math.IsNaN(n) && !math.IsInf(n, 0) {
				line.Quantity = n
			}
		case "price":
			set(&price, value)
		default:
		}
	}
	if line.ProductId == "" {
		line.ProductId = id
	}
	line.ProductId = cut(line.GetProductId(), 256)
	line.Sku = cut(line.GetSku(), 256)
	line.Name = cut(line.GetName(), 512)
	line.Category = cut(line.GetCategory(), 512)
	line.Price = a.of(price)
	return line
}
