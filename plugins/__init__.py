"""The variants that come with bakeoff: one file each, loaded like anyone's plugins."""
