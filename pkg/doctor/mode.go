package doctor

import (
	"context"
	"errors"

	"github.com/flyproxy/flyproxy/pkg/admin"
	"github.com/flyproxy/flyproxy/pkg/config"
)

// load reads the configuration. The mode is often said on the command line of serve alone, where doctor cannot read it. Unless
// doctor's own says one, it is that of the flyproxy that runs, because what is right for a sidecar is a fault of a gateway, and the
// other way round.
func (e *examination) load(ctx context.Context, f *findings) (*config.Config, error) {
	cfg, err := config.Load(e.o.Config)
	known := cfg
	var faults *config.Error
	if errors.As(err, &faults) {
		known = faults.Partial
	}
	if e.o.Config.Mode != "" || known == nil || known.Admin.Listen == "" {
		return cfg, err
	}
	ctx, cancel := context.WithTimeout(ctx, hereLimit)
	defer cancel()
	st, askErr := admin.FetchStatus(ctx, dialable(known.Admin.Listen))
	mode := st.Self.Mode
	if askErr != nil || mode == known.Mode || mode != config.ModeSidecar && mode != config.ModeGateway {
		return cfg, err
	}
	f.add(configurationMode, "mode", "taken to be "+mode+", as of the flyproxy that runs; by configuration it would be "+known.Mode, "")
	e.o.Config.Mode = mode
	return config.Load(e.o.Config)
}
