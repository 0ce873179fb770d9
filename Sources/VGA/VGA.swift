// VGA
