throw new Error('the broken version cannot start');
