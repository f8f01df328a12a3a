package serve

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/parleyhq/parley/pkg/view/pgview"
)

// The services, in the order in which they start.
const (
	Recorder = "recorder"
	Customer = "customer"
	Feed     = "feed"
	WebEntry = "web"
	Email    = "email"
	Ops      = "ops"
	// Log is the embedded event store, for Parley's services in other processes.
	// It runs by itself.
	Log = "log"
)

// Services that can be named.
func Services() []string { return append(platform(), Log) }

// platform are the services that run where none are named.
func platform() []string { return []string{Recorder, Customer, Feed, WebEntry, Email, Ops} }

// isGateway says that a service keeps nothing and needs nothing but NATS.
func isGateway(service string) bool { return service == WebEntry || service == Email }

var viewsModes = []string{string(pgview.CacheStatement), string(pgview.Exec), string(pgview.SimpleProtocol)}

// embeddedViews says that the read models are kept in the data directory.
func (s *Storage) embeddedViews() bool { return s.Views == embeddedEngine }

// embeddedLog says that the log is kept in the data directory.
func (s *Storage) embeddedLog() bool { return s.EventStore == embeddedEngine }

// checkEngines refuses engines that there are not, and services apart from each
// other over engines that belong to one process.
func (s *Settings) checkEngines(services []string) error {
	var errs []error
	scheme, _, _ := strings.Cut(s.Storage.EventStore.Reveal(), "://")
	if !s.Storage.embeddedLog() && !slices.Contains([]string{"esdb", "esdb+discover", "kurrentdb", "kurrentdb+discover"}, scheme) {
		errs = append(errs, fmt.Errorf("--event-store %s: want embedded, or the URL of an EventStoreDB (esdb://… or esdb+discover://…)", s.Storage.EventStore))
	}
	if views := s.Storage.Views.Reveal(); !s.Storage.embeddedViews() && !strings.HasPrefix(views, "postgres://") && !strings.HasPrefix(views, "postgresql://") {
		errs = append(errs, fmt.Errorf("--views %s: want embedded, or the URL of a Postgres (postgres://…)", s.Storage.Views))
	}
	if !slices.Contains(viewsModes, s.Storage.ViewsMode) {
		errs = append(errs, fmt.Errorf("--views-mode %s: there are %s", s.Storage.ViewsMode, strings.Join(viewsModes, ", ")))
	}
	if s.Listen.EventStore != "" && !s.Storage.embeddedLog() {
		errs = append(errs, fmt.Errorf("--eventstore-listen %s: the log is not embedded; let clients ask the EventStoreDB itself", s.Listen.EventStore))
	}
	for _, name := range services {
		if !slices.Contains(Services(), name) {
			errs = append(errs, fmt.Errorf("there is no service %q; there are %s", name, strings.Join(Services(), ", ")))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return s.checkApart(services)
}

// checkApart checks that services which do not all run in this process can do
// their work apart.
func (s *Settings) checkApart(services []string) error {
	has := func(name string) bool { return slices.Contains(services, name) }
	switch {
	case len(services) == 0:
		return nil
	case has(Log):
		return s.checkLogAlone(services)
	}
	var missing []string
	gateways := 0
	for _, name := range platform() {
		switch {
		case isGateway(name) && has(name):
			gateways++
		case !isGateway(name) && name != Ops && !has(name):
			missing = append(missing, name)
		}
	}
	// Without a gateway nothing is missing: it is one way in of several.
	if len(missing) == 0 {
		return nil
	}
	if has(Email) && s.NATS.URL != "" && (s.Blobs.URL == "" || s.Blobs.Secret == "") {
		return errors.New("email in a process of its own: give --blobs, a place that all processes reach, and --blobs-secret, the same for all of them")
	}
	switch {
	case gateways == len(services) && s.NATS.URL != "":
		return nil // they need nothing but NATS
	case s.Storage.embeddedLog() || s.NATS.URL == "":
		return fmt.Errorf("%s without %s: the embedded event store, NATS and views belong to one process, so all services have to run in it: "+
			"leave the names out, or run `parley serve recorder customer feed ops` and the gateways, for example `parley serve web`, over one external --nats; "+
			"other services in processes of their own need --event-store esdb://… (`parley serve log` is one), --nats and --views postgres://…",
			strings.Join(services, ", "), strings.Join(missing, ", "))
	}
	return s.checkShared(services)
}

// checkShared checks what services in several processes have to agree about.
func (s *Settings) checkShared(services []string) error {
	has := func(name string) bool { return slices.Contains(services, name) }
	named := strings.Join(services, ", ")
	var errs []error
	if (has(Customer) || has(Feed)) && s.Storage.embeddedViews() {
		errs = append(errs, fmt.Errorf("%s in a process of their own: give --views postgres://…, the same for all processes", named))
	}
	if s.Storage.ProfileSecret == "" && (has(Recorder) || has(Customer)) {
		errs = append(errs, fmt.Errorf("%s in a process of their own: give --profile-secret, the same for all processes: what one makes for itself names people differently", named))
	}
	if has(Ops) && !has(Customer) && !has(Feed) {
		errs = append(errs, errors.New("ops without a read model: run it where those run that it operates, for example `parley serve customer feed ops`"))
	}
	return errors.Join(errs...)
}

// checkLogAlone checks the event store as a process of its own.
func (s *Settings) checkLogAlone(services []string) error {
	switch {
	case len(services) > 1:
		return fmt.Errorf("log runs by itself, for services in other processes; to let others read the log of this one, give --eventstore-listen with %s",
			strings.Join(slices.DeleteFunc(slices.Clone(services), func(name string) bool { return name == Log }), ", "))
	case !s.Storage.embeddedLog():
		return fmt.Errorf("--event-store %s: the service log is the embedded event store; leave the setting out", s.Storage.EventStore)
	}
	return nil
}
