package cli

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
)

// customerName is how somebody names a customer: by the id of any of his
// profiles, or by one of his identifiers.
type customerName struct {
	kind  string // empty for an id
	value string
}

// namingHelp is how the arguments of a command name a customer.
const namingHelp = `A customer is named by his id or that of any of his profiles, by an e-mail
address, by a phone number with its country code (+43…), or by any identifier as
kind:value, for example user_id:4711 or handle:whatsapp:436601234567.`

const (
	maxIDBytes    = 64
	maxValueRunes = 512
)

var kindPattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}(:[a-z0-9_.-]{1,64})?$`)

// parseName reads what names a customer in an argument.
func parseName(text string) (customerName, error) {
	text = strings.TrimSpace(text)
	n := customerName{value: text}
	switch {
	case text == "":
		return customerName{}, usagef("name a customer: by his id, an e-mail address, a phone number, or kind:value")
	case strings.Contains(text, ":"):
		return parseIdentifier(text)
	case strings.Contains(text, "@"):
		n.kind = "email"
	case strings.HasPrefix(text, "+"):
		n.kind = "phone"
	case len(text) > maxIDBytes:
		return customerName{}, usagef("%s: no id is longer than %d characters", cutTo(text, maxIDBytes), maxIDBytes)
	}
	return n, nil
}

// parseIdentifier reads kind:value; the kinds of handles have a provider in
// them. A bare address or number with its country code is taken for what it is.
func parseIdentifier(text string) (customerName, error) {
	text = strings.TrimSpace(text)
	kind, value, found := strings.Cut(text, ":")
	if !found {
		if n, err := parseName(text); err == nil && n.kind != "" {
			return n, nil
		}
		return customerName{}, usagef("%s: want kind:value, for example email:ada@example.com or user_id:4711", cell(text))
	}
	if kind == "handle" {
		provider, rest, found := strings.Cut(value, ":")
		if !found {
			return customerName{}, usagef("%s: a handle has a provider, for example handle:whatsapp:436601234567", cell(text))
		}
		kind, value = kind+":"+provider, rest
	}
	kind = strings.ReplaceAll(kind, "-", "_") // as the flags spell it
	if !kindPattern.MatchString(kind) || value == "" || len([]rune(value)) > maxValueRunes {
		return customerName{}, usagef("%s: want kind:value, for example email:ada@example.com or user_id:4711", cell(text))
	}
	return customerName{kind: kind, value: value}, nil
}

// named is the customer that an argument or one of the flags names.
func (f *identifierFlags) named(args []string) (customerName, error) {
	given := 0
	for _, v := range f.values {
		if *v != "" {
			given++
		}
	}
	if len(args) > 1 || len(args) == 1 && given > 0 {
		return customerName{}, usagef("name one customer, once")
	}
	if len(args) == 1 {
		return parseName(args[0])
	}
	if given == 0 {
		return customerName{}, usagef("name the customer: by his id, an e-mail address, a phone number, or kind:value")
	}
	kind, value, err := f.one()
	return customerName{kind: kind, value: value}, err
}

// anyArgs leaves it to named to judge the arguments.
func anyArgs(*cobra.Command, []string) error { return nil }

// find gives those who are named: for an id one, for an identifier all who have
// it, the strongest first. Nobody is an error.
func (n customerName) find(ctx context.Context, service customerv1.CustomerServiceClient, token string, fields ...string) ([]*customerv1.Customer, error) {
	mask := &fieldmaskpb.FieldMask{Paths: fields}
	if n.kind == "" {
		resp, err := service.GetCustomer(ctx, &customerv1.GetCustomerRequest{CustomerId: n.value, ConsistencyToken: token, ReadMask: mask})
		if err != nil {
			return nil, err
		}
		return []*customerv1.Customer{resp.GetCustomer()}, nil
	}
	resp, err := lookup(ctx, service, n.kind, n.value, token, mask)
	if err != nil {
		return nil, err
	}
	all := make([]*customerv1.Customer, len(resp.GetMatches()))
	for i, m := range resp.GetMatches() {
		all[i] = m.GetCustomer()
	}
	return all, nil
}

// findOne is find where a decision hangs on who it is: that several have the
// identifier is an error that names them.
func (n customerName) findOne(ctx context.Context, service customerv1.CustomerServiceClient, token string, fields ...string) (*customerv1.Customer, error) {
	all, err := n.find(ctx, service, token, fields...)
	if err != nil {
		return nil, err
	}
	if len(all) == 1 {
		return all[0], nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d customers have the %s %s; name the one by his id:", len(all), strings.ReplaceAll(n.kind, "_", " "), n.value)
	for i, c := range all {
		if i == shownEach {
			fmt.Fprintf(&b, "\n  … and %d more", len(all)-i)
			break
		}
		fmt.Fprintf(&b, "\n  %s  %s", c.GetCustomerId(), cell(or(c.GetDisplayName())))
	}
	return nil, &ambiguousError{text: b.String()}
}

// ambiguousError is that an identifier names several customers.
type ambiguousError struct{ text string }

func (e *ambiguousError) Error() string { return e.text }
